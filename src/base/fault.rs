//! Faults of a file that a person wrote: each with its place and its remedy, all told at once.

use std::fmt;

/// One fault. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}\n    {}", self.file, self.line, self.column, self.message, self.remedy)
    }
}

/// Every fault of one file, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        Self(faults)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Faults> for crate::base::error::Error {
    fn from(faults: Faults) -> Self {
        crate::base::error::Error::refuse(faults)
    }
}

/// ` Did you mean …?` if one of the known words is near enough; else the list of them.
pub fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known.iter().map(|other| (strsim::damerau_levenshtein(word, other), *other)).min();
    match nearest {
        Some((distance, other)) if distance <= 1 + word.chars().count() / 4 => format!("Did you mean `{other}`?"),
        Some(_) => format!("Known here: {}.", known.join(", ")),
        None => "Nothing is known here: remove it.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_gets_the_list() {
        assert_eq!(suggestion("parent", ["name", "parents"]), "Did you mean `parents`?");
        assert_eq!(suggestion("colour", ["name", "parents"]), "Known here: name, parents.");
    }
}
