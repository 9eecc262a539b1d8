use super::*;
use crate::base::ids::VectorId;
use crate::merge::version::ContentHash;

fn undo() -> Undo {
    Undo {
        to: UnixMs(1_000),
        until: Hlc::at(UnixMs(2_000)),
        collections: vec![CollectionId(0)],
        origin: Some(Region::new("us")),
        marked: Vec::new(),
        proven_since: UnixMs(0),
    }
}

fn key(collection: u16) -> RowKey {
    RowKey { collection: CollectionId(collection), id: VectorId::Int(1) }
}

fn version(ms: i64, counter: u16, origin: &str) -> Version {
    Version { hlc: Hlc::new(UnixMs(ms), counter), origin: Region::new(origin), sequence: 1 }
}

/// The whole millisecond of T is kept; R itself stays.
#[test]
fn what_is_stamped_after_t_and_before_r_is_undone_where_the_filter_matches() {
    let undoes = |version: Version, collection| undo().may_undo(&key(collection), &version);
    assert!(!undoes(version(1_000, u16::MAX, "us"), 0));
    assert!(undoes(version(1_001, 0, "us"), 0));
    assert!(undoes(version(1_999, u16::MAX, "us"), 0));
    assert!(!undoes(version(2_000, 0, "us"), 0));
    assert!(!undoes(version(1_500, 0, "eu"), 0));
    assert!(!undoes(version(1_500, 0, "us"), 1));
}

#[test]
fn a_filter_by_metadata_takes_no_change_of_which_the_metadata_is_not_known() {
    let forgotten = Statement { key: key(0), version: version(1_500, 0, "us"), change: None };
    assert!(undo().undoes(&forgotten));
    let marked = Undo { marked: vec![("deploy".to_owned(), "bad".to_owned())], ..undo() };
    assert!(!marked.undoes(&forgotten));
    assert_eq!(forgotten.hash(), ContentHash(0));
}

#[test]
fn own_changes_are_known_by_origin_writer_and_stamp_together() {
    let stamps = vec![Hlc(5), Hlc(7)];
    let scribe = Scribe { stamps, writer: 3, schema_id: 1, to: UnixMs(0) };
    let eu = Region::new("eu");
    let of = |hlc, origin: &str, writer: u64| Version { hlc: Hlc(hlc), origin: Region::new(origin), sequence: writer << 48 | 9 };
    assert!(scribe.wrote(&of(5, "eu", 3), &eu) && scribe.wrote(&of(7, "eu", 3), &eu));
    assert!(!scribe.wrote(&of(6, "eu", 3), &eu) && !scribe.wrote(&of(5, "us", 3), &eu) && !scribe.wrote(&of(5, "eu", 4), &eu));
}
