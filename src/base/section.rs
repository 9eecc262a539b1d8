//! A TOML file read key by key: whoever asks for a key gets its value or leaves a fault with its place,
//! and what nobody has asked for is unknown. So one pass over a file finds everything that is wrong with it.
//!
//! [`Document`] is the file with its faults so far, [`Section`] one of its tables. Both the configuration and
//! the topologies are read this way.

use crate::base::fault::{Fault, Faults, suggestion};
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub struct Document<'t> {
    file: String,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    nothing: DeTable<'t>,
    syntax_lines: Vec<usize>,
    faults: RefCell<Vec<Fault>>,
}

impl<'t> Document<'t> {
    /// `file` is what the faults call it. Syntax errors are faults like any other; the rest is still read.
    pub fn parse(file: &str, text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            file: file.to_owned(),
            text,
            root,
            nothing: DeTable::new(),
            syntax_lines: Vec::new(),
            faults: RefCell::new(Vec::new()),
        };
        for error in errors {
            let place = error.span().unwrap_or(0..0).start;
            document.fault(place, format!("not valid TOML: {}", error.message()), "Mend the syntax: https://toml.io");
        }
        document.syntax_lines = document.faults.borrow().iter().map(|fault| fault.line).collect();
        document
    }

    pub fn has_syntax_errors(&self) -> bool {
        !self.syntax_lines.is_empty()
    }

    pub fn root(&self) -> Section<'_, 't> {
        Section {
            document: self,
            table: self.root.get_ref(),
            span: 0..0,
            title: "the file".to_owned(),
            asked: RefCell::new(Vec::new()),
        }
    }

    /// Notes a fault at a byte offset of the text. Lines with a syntax error are left at that one.
    pub fn fault(&self, at: usize, message: impl Into<String>, remedy: impl Into<String>) {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        if self.syntax_lines.contains(&line) {
            return;
        }
        let fault = Fault { file: self.file.clone(), line, column, message: message.into(), remedy: remedy.into() };
        let mut faults = self.faults.borrow_mut();
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    pub fn is_sound(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// The faults found, all of them; `Ok` if there are none.
    pub fn finish(self) -> Result<(), Faults> {
        let faults = self.faults.into_inner();
        if faults.is_empty() { Ok(()) } else { Err(Faults::new(faults)) }
    }
}

/// One table. `title` is how faults call it: `[kafka]`.
pub struct Section<'d, 't> {
    document: &'d Document<'t>,
    table: &'d DeTable<'t>,
    span: Range<usize>,
    title: String,
    asked: RefCell<Vec<String>>,
}

impl<'d, 't> Section<'d, 't> {
    /// Where the section begins, as a byte offset.
    pub fn place(&self) -> usize {
        self.span.start
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where a key stands; where the section begins, if it isn't there.
    pub fn place_of(&self, key: &str) -> usize {
        self.table.get_key_value(key).map_or(self.span.start, |(key, _)| key.span().start)
    }

    pub fn fault(&self, at: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.document.fault(at, message, remedy);
    }

    /// Notes that a key is missing. In a file with syntax errors it may only have been lost: then nothing.
    pub fn require(&self, key: &str, remedy: &str) {
        self.note(key);
        if !self.has(key) && !self.document.has_syntax_errors() {
            self.fault(self.span.start, format!("`{key}` is missing in {}", self.title), remedy);
        }
    }

    pub fn text(&self, key: &str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.clone().into_owned())),
            other => self.wrong_type(key, value.span(), "a text in quotes", other),
        }
    }

    pub fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            other => self.wrong_type(key, value.span(), "true or false", other),
        }
    }

    pub fn integer(&self, key: &str, allowed: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            return self.wrong_type(key, value.span(), "a whole number", value.get_ref());
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| allowed.contains(number));
        if number.is_none() {
            let remedy = format!("Choose a number from {} to {}.", allowed.start(), allowed.end());
            self.fault(value.span().start, format!("`{key}` = {integer} is out of range"), remedy);
        }
        number
    }

    /// A duration such as `"5s"` or `"1h 30m"`; zero is refused.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        let text = self.text(key)?;
        let problem = match humantime::parse_duration(text.get_ref()) {
            Ok(duration) if !duration.is_zero() => return Some(duration),
            Ok(_) => "it may not be zero".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("`{key}` = \"{}\" is not a usable duration: {problem}", text.get_ref());
        self.fault(text.span().start, message, "Write a number with its unit, such as \"250ms\", \"5s\" or \"1h\".");
        None
    }

    /// A size such as `"2MiB"`, or a plain number of bytes; zero is refused.
    pub fn bytes(&self, key: &str) -> Option<usize> {
        if matches!(self.table.get(key).map(Spanned::get_ref), Some(DeValue::Integer(_))) {
            return self.integer(key, 1..=i64::MAX).and_then(|number| usize::try_from(number).ok());
        }
        let text = self.text(key)?;
        let bytes = parse_bytes(text.get_ref());
        if bytes.is_none() {
            let message = format!("`{key}` = \"{}\" is not a size", text.get_ref());
            self.fault(text.span().start, message, "Write a whole number with KiB, MiB or GiB, such as \"2MiB\".");
        }
        bytes
    }

    pub fn text_list(&self, key: &str) -> Vec<Spanned<String>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type::<()>(key, value.span(), "a list of texts in brackets", value.get_ref());
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(Spanned::new(item.span(), text.clone().into_owned())),
                other => _ = self.wrong_type::<()>(key, item.span(), "texts in quotes", other),
            }
        }
        texts
    }

    /// The table `[key]`, if it is there.
    pub fn section(&self, key: &str) -> Option<Section<'d, 't>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.child(key, table, value.span(), format!("[{key}]"))),
            other => self.wrong_type(key, value.span(), "a table", other),
        }
    }

    /// A table without any key, standing where this one does.
    pub fn empty(&self, key: &str) -> Section<'d, 't> {
        self.child(key, &self.document.nothing, self.span.clone(), format!("[{key}]"))
    }

    /// The tables `[[key]]`, in their order.
    pub fn sections(&self, key: &str) -> Vec<Section<'d, 't>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.fault(self.place_of(key), format!("`{key}` is not a list of tables"), format!("Write [[{key}]]."));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => sections.push(self.child(key, table, item.span(), format!("[[{key}]]"))),
                other => _ = self.wrong_type::<()>(key, item.span(), "tables", other),
            }
        }
        sections
    }

    /// Every key with its place, in the order of the file. Asking this way makes none of them known.
    pub fn keys(&self) -> Vec<Spanned<String>> {
        let mut keys: Vec<_> = self.table.keys().map(|key| Spanned::new(key.span(), key.get_ref().to_string())).collect();
        keys.sort_by_key(|key| key.span().start);
        keys
    }

    /// A value written as text, number or boolean, as text: for properties that are passed through.
    pub fn scalar(&self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Boolean(boolean) => Some(boolean.to_string()),
            DeValue::Integer(integer) => Some(integer.to_string()),
            DeValue::Float(float) => Some(float.to_string()),
            other => self.wrong_type(key, value.span(), "a text, a number or a boolean", other),
        }
    }

    /// Reads the whole section by serde. Unknown keys and the first value of a wrong type become faults.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        let table = Spanned::new(self.span.clone(), self.table.clone());
        let mut unknown = Vec::new();
        let read = serde_ignored::deserialize(toml::de::Deserializer::from(table), |path| unknown.push(path.to_string()));
        for path in &unknown {
            let key = path.split('.').next().unwrap_or(path);
            self.fault(self.place_of(key), format!("unknown key `{path}` in {}", self.title), "Remove it or mend its name.");
        }
        match read {
            Ok(value) if unknown.is_empty() => Some(value),
            Ok(_) => None,
            Err(error) => {
                let place = error.span().map_or(self.span.start, |span| span.start);
                self.fault(place, format!("{}: {}", self.title, error.message()), "Give it a value of that form.");
                None
            }
        }
    }

    /// Notes each key that nobody has asked for.
    pub fn refuse_unknown_keys(&self) {
        let asked = self.asked.borrow();
        for key in self.keys() {
            let name = key.get_ref();
            if !asked.contains(name) {
                let remedy = suggestion(name, asked.iter().map(String::as_str));
                self.fault(key.span().start, format!("unknown key `{name}` in {}", self.title), remedy);
            }
        }
    }

    fn child(&self, key: &str, table: &'d DeTable<'t>, span: Range<usize>, title: String) -> Section<'d, 't> {
        let title = match self.title.strip_prefix('[') {
            Some(parent) => format!("[{}.{key}]", parent.trim_start_matches('[').trim_end_matches(']')),
            None => title,
        };
        Section { document: self.document, table, span, title, asked: RefCell::new(Vec::new()) }
    }

    fn note(&self, key: &str) {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|other| other == key) {
            asked.push(key.to_owned());
        }
    }

    fn value(&self, key: &str) -> Option<&'d Spanned<DeValue<'t>>> {
        self.note(key);
        self.table.get(key)
    }

    fn wrong_type<T>(&self, key: &str, span: Range<usize>, wanted: &str, found: &DeValue<'_>) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(span.start, format!("`{key}` in {} is {found}", self.title), format!("It takes {wanted}."));
        None
    }
}

fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kib" => 10,
        "mib" => 20,
        "gib" => 30,
        _ => return None,
    };
    let number: usize = digits.trim().parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str, read: impl FnOnce(&Section<'_, '_>)) -> Vec<String> {
        let document = Document::parse("f.toml", text);
        read(&document.root());
        document.finish().err().map_or(Vec::new(), |faults| faults.iter().map(Fault::to_string).collect())
    }

    #[test]
    fn a_document_tells_all_its_faults_with_their_places() {
        let text = "nmae = 1\nsize = \"2MB\"\nwait = \"0s\"\ncount = 12\n";
        let found = faults(text, |root| {
            assert_eq!(root.text("name"), None);
            assert_eq!(root.bytes("size"), None);
            assert_eq!(root.duration("wait"), None);
            assert_eq!(root.integer("count", 1..=10), None);
            root.require("name", "Give it a name.");
            root.refuse_unknown_keys();
        });
        assert_eq!(found.len(), 5);
        assert!(found[0].starts_with("f.toml:1:1: "), "{found:?}");
        assert!(found.iter().any(|fault| fault.contains("unknown key `nmae`") && fault.contains("Did you mean `name`?")));
        assert!(found[2].starts_with("f.toml:2:8: `size` = \"2MB\" is not a size"), "{found:?}");
        assert!(found[4].contains("Choose a number from 1 to 10."), "{found:?}");
    }

    #[test]
    fn a_syntax_error_is_told_beside_the_other_faults() {
        let found = faults("a = \nb = true\n", |root| _ = root.text("b"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("f.toml:1:") && found[0].contains("not valid TOML"), "{found:?}");
        assert!(found[1].starts_with("f.toml:2:5: `b` in the file is a boolean"), "{found:?}");
    }

    #[test]
    fn sizes_are_read_with_binary_units() {
        assert_eq!(parse_bytes("2MiB"), Some(2 << 20));
        assert_eq!(parse_bytes("512"), Some(512));
        assert_eq!(parse_bytes("0KiB"), None);
        assert_eq!(parse_bytes("2MB"), None);
    }
}
