use super::*;
use crate::base::ids::{Region, RowKey};
use crate::base::time::UnixMs;
use crate::merge::version::ContentHash;
use crate::record::collection::{CollectionSpec, Collections, IdKind, IndexKind, Metric};
use crate::store::memory::MemoryStore;

const NOW_MS: i64 = 1_700_000_000_000;

fn at(ms: u64) -> Now {
    Now { wall: UnixMs(NOW_MS + ms as i64), monotonic: Duration::from_millis(ms) }
}

fn version(wall_ms: i64, sequence: u64) -> Version {
    Version { hlc: Hlc::at(UnixMs(wall_ms)), origin: Region::new("us"), sequence }
}

fn entry(version: Version, tombstone: bool) -> Entry {
    Entry { version, content_hash: ContentHash(1), vector_offset: 7, tombstone, refused: false }
}

fn row(version: Option<Version>) -> StoredVersion {
    StoredVersion { id: VectorId::Int(1), version }
}

#[test]
fn a_row_is_judged_by_its_whole_version() {
    let held = version(NOW_MS - 60_000, 5);
    let floor = Some(Hlc::at(UnixMs(NOW_MS - 3_600_000)));
    let of =
        |tombstone, stored: Option<StoredVersion>, floor| judge(&entry(held.clone(), tombstone), stored.as_ref(), floor, at(0));
    let later = |ms| version(NOW_MS - 60_000 + ms, 5);
    assert_eq!(of(false, Some(row(Some(held.clone()))), floor), Finding::Same);
    assert_eq!(of(false, None, floor), Finding::Missing);
    assert_eq!(of(false, Some(row(Some(later(-1)))), floor), Finding::Older);
    assert_eq!(of(false, Some(row(Some(version(NOW_MS - 60_000, 4)))), floor), Finding::Older, "by its sequence alone");
    assert_eq!(of(false, Some(row(None)), floor), Finding::Older, "somebody gives no version");
    assert_eq!(of(true, None, floor), Finding::Same);
    assert_eq!(of(true, Some(row(Some(later(-1)))), floor), Finding::Undeleted);
    assert_eq!(of(true, Some(row(None)), floor), Finding::Unversioned, "never deleted");

    assert_eq!(of(false, Some(row(Some(later(1)))), floor), Finding::Newer, "its change may be on its way");
    assert_eq!(of(false, Some(row(Some(later(1)))), None), Finding::Newer, "as long as nothing is known of a floor");
    let above = Some(Hlc::at(UnixMs(NOW_MS)));
    assert_eq!(of(false, Some(row(Some(later(1)))), above), Finding::Forged, "all that lies below the floor was seen");
    let early = EARLY_MS_MAX + CLOCK_MARGIN_MS + 60_000;
    assert_eq!(of(false, Some(row(Some(later(early)))), floor), Finding::Newer);
    assert_eq!(of(true, Some(row(Some(later(early + 1)))), floor), Finding::Forged, "no change is admitted so early");

    let refused = Entry { refused: true, ..entry(held.clone(), false) };
    assert_eq!(judge(&refused, None, floor, at(0)), Finding::Same, "it cannot be there");
}

fn store(entries: i64) -> MemoryStore {
    let spec = CollectionSpec {
        name: "c".to_owned(),
        id: IdKind::Int64,
        dimension: 1,
        metric: Metric::L2,
        index: IndexKind::Auto,
        auto_create: false,
    };
    let mut store = MemoryStore::new(&Collections::new(vec![spec]), Duration::from_secs(1));
    for id in 0..entries {
        let key = RowKey { collection: CollectionId(0), id: VectorId::Int(id) };
        store.put(&key, entry(version(NOW_MS, id as u64), false));
    }
    store
}

fn scrub(pass_min_s: u64) -> Scrub {
    let pass_min = Duration::from_secs(pass_min_s);
    let settings = ScrubSettings { enabled: true, period: Duration::from_secs(600), pass_min };
    Scrub::new(settings, 1, 0, 2, at(0))
}

#[test]
fn a_pass_asks_for_every_entry_once_at_the_pace_of_the_period() {
    let (store, mut scrub) = (store(2_500), scrub(1));
    let (mut asked, mut requests) = (Vec::new(), 0);
    while scrub.report().passes == 0 {
        let due = scrub.due().expect("it goes on");
        let now = Now { wall: UnixMs(NOW_MS), monotonic: due };
        assert_eq!(scrub.next_collection(now), Some(CollectionId(0)));
        let question = scrub.ask(&store, now, |id| *id == VectorId::Int(3)).expect("entries");
        assert!(scrub.due().is_none() && scrub.next_collection(at(1 << 40)).is_none(), "one request at a time");
        asked.extend(question.asked().iter().map(|(id, _)| id.clone()));
        requests += 1;
        let reading = scrub.reading().expect("it was asked");
        scrub.judged(&reading, 2_500, now);
    }
    asked.sort();
    let expected: Vec<VectorId> = (0..2_500).filter(|id| *id != 3).map(VectorId::Int).collect();
    assert_eq!((asked, requests), (expected, 3), "but for what is under way");
    // The other partition has as many: 5 000 rows of a million in ten minutes are 3 s.
    let next = scrub.due().expect("it goes on").as_millis();
    assert!((2_600..=3_000).contains(&next), "the next pass begins after {next} ms");
}

#[test]
fn a_page_without_an_answer_is_asked_for_again_later_and_later() {
    let (store, mut scrub) = (store(5), scrub(10));
    let mut now = 0;
    for wait in [1_000, 2_000, 4_000] {
        assert!(scrub.next_collection(at(now)).is_some());
        assert_eq!(scrub.ask(&store, at(now), |_| false).map(|question| question.asked().len()), Some(5));
        scrub.failed(at(now));
        assert_eq!(scrub.due(), Some(Duration::from_millis(now + wait)));
        now += wait;
    }
    assert_eq!(scrub.report().passes, 0);
}

#[test]
fn differing_winners_are_read_by_ranges_one_at_a_time_and_then_the_walk_goes_on() {
    let (store, mut scrub) = (store(5), scrub(10));
    scrub.next_collection(at(0)).expect("due");
    scrub.ask(&store, at(0), |_| false).expect("entries");
    for offset in [10, 50, 1_000] {
        scrub.want(offset);
    }
    let reading = scrub.reading().expect("asked");
    scrub.judged(&reading, 5, at(2));
    assert_eq!(scrub.next_range(at(2)), Some((10, 51)));
    assert_eq!(scrub.next_range(at(2)), None, "one at a time");
    assert!(scrub.takes(10) && !scrub.takes(11) && scrub.takes(50));
    scrub.range_read(50, 51, true, at(3));
    assert_eq!((scrub.next_range(at(3)), scrub.next_range(at(1_003))), (None, Some((50, 51))), "there was no room");
    assert!(scrub.takes(50));
    scrub.range_read(51, 51, false, at(1_004));
    assert_eq!(scrub.next_range(at(1_004)), Some((1_000, 1_001)));
    assert!(scrub.next_collection(at(20_000)).is_none(), "not before they are written");
    scrub.range_read(1_001, 1_001, false, at(1_005));
    assert_eq!(scrub.due(), Some(Duration::from_secs(9)), "what was not found there is left to the next pass");
}

#[test]
fn strangers_are_condemned_at_the_end_of_a_walk_unless_they_are_many_or_the_collection_is_another_s() {
    let (store, mut scrub) = (store(5), scrub(10));
    let collection = CollectionId(0);
    scrub.stranger(collection, VectorId::Int(100), version(1, 1), 5);
    assert_eq!(scrub.walk_ended(collection, false), 0);
    let question = scrub.ask(&store, at(0), |_| false);
    assert!(matches!(question, Some(Question::Entries(_))), "the walk was not heard from its beginning");
    scrub.failed(at(0));
    let meet = |scrub: &mut Scrub, count: i64| {
        scrub.walk_began(collection);
        for id in 0..count {
            scrub.stranger(collection, VectorId::Int(100 + id), version(1, 1), 5);
        }
    };
    meet(&mut scrub, 2);
    assert_eq!(scrub.walk_ended(collection, true), 2, "rows without a version were met");
    meet(&mut scrub, 11);
    assert_eq!(scrub.walk_ended(collection, false), 11, "too many");
    meet(&mut scrub, 2);
    assert_eq!(scrub.walk_ended(collection, false), 0);
    assert_eq!(scrub.next_collection(at(1_000)), Some(collection));
    let question = scrub.ask(&store, at(1_000), |_| false).expect("strangers first");
    assert!(matches!(&question, Question::Strangers(rows) if rows.len() == 2), "read back once more: {question:?}");
    let reading = scrub.reading().expect("asked");
    scrub.judged(&reading, 5, at(1_001));
    let due = scrub.due().expect("it goes on");
    assert!(scrub.next_collection(Now { wall: UnixMs(0), monotonic: due }).is_some());
    assert!(matches!(scrub.ask(&store, at(1_010), |_| false), Some(Question::Entries(_))), "once");
}
