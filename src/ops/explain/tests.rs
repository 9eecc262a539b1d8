use super::*;
use crate::base::ids::{CollectionId, Region, VectorId};
use crate::merge::hlc::Hlc;
use crate::record::reason::Reason;

fn version(hlc: u64, origin: &str) -> Version {
    Version { hlc: Hlc(hlc), origin: Region::new(origin), sequence: 1 }
}

fn offered(topic: &str, offset: i64, version: Version) -> Offered {
    let seen = Some(Seen { hash: ContentHash(version.hlc.0), version, op: Op::Upsert });
    Offered {
        source: TopicPartition::new(topic, 0),
        offset,
        own: topic == "vector-cdc",
        appended_at: UnixMs(offset),
        seen,
        admission: Admission::Admitted,
        rolled_back_to: None,
    }
}

fn winner(offset: i64, version: Version) -> Winner {
    Winner { offset, hash: ContentHash(version.hlc.0), version, op: Some(Op::Upsert) }
}

fn entry(version: Version) -> Entry {
    let content_hash = ContentHash(version.hlc.0);
    Entry { version, content_hash, vector_offset: 1, tombstone: false, refused: false }
}

fn stored(version: Version) -> StoredVersion {
    let key = RowKey { collection: CollectionId(0), id: VectorId::Int(1) };
    StoredVersion { id: key.id, version: Some(version) }
}

fn story() -> Findings {
    let settled = [("vector-cdc", 100), ("us.vector-cdc", 5)].map(|(topic, next)| (Arc::from(topic), next));
    let refused = Offered {
        admission: Admission::Refused(Rejection::new(Reason::Late, "two hours")),
        ..offered("vector-cdc", 6, version(1, "eu"))
    };
    Findings {
        offered: vec![
            offered("vector-cdc", 1, version(10, "eu")),
            offered("vector-cdc", 2, version(10, "eu")),
            offered("us.vector-cdc", 3, version(20, "us")),
            offered("us.vector-cdc", 4, version(15, "us")),
            offered("vector-cdc", 5, version(12, "eu")),
            refused,
            offered("us.vector-cdc", 7, version(30, "us")),
        ],
        winners: vec![winner(0, version(10, "eu")), winner(1, version(20, "us"))],
        entry: Some(entry(version(20, "us"))),
        conflicts: HashMap::from([((Arc::from("vector-cdc"), 0, 5), version(20, "us"))]),
        settled: BTreeMap::from(settled),
        stored: Some(Ok(Some(stored(version(20, "us"))))),
        ..Findings::default()
    }
}

#[test]
fn each_change_has_its_verdict_and_all_keepers_agree() {
    let explanation = tell(&story());
    let verdicts: Vec<&str> = explanation.lines.iter().map(|line| line.verdict).collect();
    assert_eq!(verdicts, ["winner", "duplicate", "winner", "stale", "conflict", "dead-lettered", "pending"]);
    assert_eq!(explanation.lines[0].why, "until 20/us/1");
    assert_eq!(explanation.lines[2].why, "holds the row");
    assert_eq!(explanation.lines[4].why, "loses to 20/us/1");
    assert!(explanation.agrees());
}

/// f55: two regions, one stamp; the greater origin's name decides, and the loser says so.
#[test]
fn f55_of_two_changes_with_one_stamp_the_loser_names_the_winner() {
    let findings = Findings {
        offered: vec![offered("vector-cdc", 1, version(10, "eu")), offered("us.vector-cdc", 1, version(10, "us"))],
        winners: vec![winner(0, version(10, "us"))],
        entry: Some(entry(version(10, "us"))),
        ..story()
    };
    let explanation = tell(&findings);
    let told: Vec<(&str, &str)> = explanation.lines.iter().map(|line| (line.verdict, line.why.as_str())).collect();
    let lost = "loses to 10/us/1, or held the row before it and has been compacted away";
    assert_eq!(told, [("conflict", lost), ("winner", "holds the row")]);
}

#[test]
fn a_row_that_differs_from_its_entry_is_no_agreement() {
    for wrong in [None, Some(stored(version(10, "eu")))] {
        let findings = Findings { stored: Some(Ok(wrong)), ..story() };
        let held = tell(&findings).held;
        assert_eq!(held.iter().map(|held| held.agrees).collect::<Vec<_>>(), [Some(true), Some(true), Some(false)]);
    }
    assert!(!tell(&Findings { stored: Some(Err("no reply".to_owned())), ..story() }).agrees());
}

#[test]
fn a_forgotten_delete_is_told_as_such_and_nothing_is_missing() {
    let delete = version(20, "us");
    let forgetting = Winner { offset: 2, version: delete.clone(), hash: ContentHash(0), op: None };
    let findings = Findings {
        offered: vec![offered("vector-cdc", 1, version(10, "eu"))],
        winners: vec![forgetting],
        entry: None,
        forgotten: Some(delete),
        stored: Some(Ok(None)),
        ..story()
    };
    let explanation = tell(&findings);
    assert!(explanation.agrees(), "{:?}", explanation.held);
    assert_eq!(explanation.lines[0].verdict, "conflict");
}
