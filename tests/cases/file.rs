//! A case as its file says it.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows, in a sentence.
    pub rule: String,
    /// The region whose worker runs it, and its peers.
    #[serde(default = "eu")]
    pub region: String,
    #[serde(default = "us")]
    pub peers: Vec<String>,
    pub steps: Vec<Step>,
    #[serde(default)]
    pub expect: Expect,
}

fn eu() -> String {
    "eu".to_owned()
}

fn us() -> Vec<String> {
    vec!["us".to_owned()]
}

/// What comes of it: everything, in the order of ids, or of the log.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Id → the upsert that it holds.
    pub rows: BTreeMap<String, String>,
    /// Id → what the changelogs' last record of its key is: the name of a change, `forgotten NAME` or `refused NAME`.
    pub changelog: BTreeMap<String, String>,
    /// Name of a record → why it is kept.
    pub dead_letters: BTreeMap<String, String>,
    /// Loser → winner.
    pub conflicts: BTreeMap<String, String>,
    /// How often each verdict was given; those that are not named may be any. Not counted after a crash.
    pub verdicts: BTreeMap<String, u64>,
    /// Id → metadata of the row, where it is not what the change said.
    pub metadata: BTreeMap<String, toml::Table>,
}

/// One of them.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Step {
    Advance(Advance),
    Change(Box<Change>),
    Raw(Raw),
    Heartbeat(Heartbeat),
    Refuse(Refuse),
    Again(Again),
    Restart(Restart),
}

/// The clock moves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    pub advance: Span,
}

/// `upsert` or `delete` names the row's id, `name` what the case calls the change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub upsert: Option<String>,
    pub delete: Option<String>,
    pub name: String,
    /// Where it was accepted: the case's own region if it does not say.
    pub from: Option<String>,
    /// Whom it says it is from, where that is not so.
    pub origin: Option<String>,
    pub stamp: Span,
    /// Breaks a tie of stamps.
    #[serde(default)]
    pub counter: u16,
    #[serde(default = "one")]
    pub sequence: u64,
    #[serde(default)]
    pub vector: Vec<f32>,
    #[serde(default)]
    pub metadata: toml::Table,
    #[serde(default = "docs")]
    pub collection: String,
    /// A, of a peer's change that the link has held back: when its own broker took it.
    pub appended: Option<Span>,
    /// The record's key, where it is not the id; an empty one is none.
    pub key: Option<String>,
}

fn one() -> u64 {
    1
}

fn docs() -> String {
    "docs".to_owned()
}

/// Any value: text, or bytes in hexadecimal, or none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub raw: String,
    #[serde(default)]
    pub hex: bool,
    pub name: String,
    pub key: Option<String>,
    pub from: Option<String>,
    /// No value at all, whatever `raw` says.
    #[serde(default)]
    pub null: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    pub heartbeat: String,
}

/// From now on the vector store refuses (or, when `accept` is given, takes) the row with this id.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    pub refuse: Option<i64>,
    pub accept: Option<i64>,
}

/// The very same record once more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Again {
    pub again: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// true: the worker is stopped, and another started.
    pub restart: bool,
}

/// `"90s"`, `"1h"`, `"-60001ms"`: from the beginning of the case, or from now.
#[derive(Clone, Copy)]
pub struct Span {
    pub ms: i64,
}

impl Span {
    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::try_from(self.ms).expect("the clock moves forwards only"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (sign, span) = text.strip_prefix('-').map_or((1, text.as_str()), |span| (-1, span));
        let span = humantime::parse_duration(span).map_err(serde::de::Error::custom)?;
        Ok(Self { ms: sign * i64::try_from(span.as_millis()).map_err(serde::de::Error::custom)? })
    }
}
