//! The suite of looking after whole collections: what is made is empty and takes rows, an alias goes over in one step,
//! and nothing is lost or dropped that was not meant.

use crate::base::ids::{CollectionId, Region, VectorId};
use crate::merge::hlc::Hlc;
use crate::merge::version::Version;
use crate::ops::ask::ask;
use crate::port::vector::{RowBatch, StoreReply, StoreRequest, StoredVersion, VectorAdmin, VectorStore};
use crate::record::collection::{CollectionSpec, Collections, physical_name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Opens a store under these names; its wake is the calling thread's.
pub type Open<'a> = dyn FnMut(Arc<Collections>) -> Box<dyn VectorStore> + 'a;

/// Panics at the first breach. `spec` is of int64 ids, its alias stands for an empty first generation, and there is no
/// other.
pub fn run(spec: &CollectionSpec, admin: &mut dyn VectorAdmin, open: &mut Open<'_>) {
    let (first, second) = (physical_name(&spec.name, 1), physical_name(&spec.name, 2));
    assert_eq!(admin.alias(&spec.name), Ok(Some(first.clone())));
    assert_eq!(admin.alias(&format!("{}_nobody", spec.name)), Ok(None));
    let named = |name: &str| CollectionSpec { name: name.to_owned(), ..spec.clone() };
    let mut store_of = |name: &str| open(Arc::new(Collections::new(vec![named(name)])));
    let (mut by_alias, mut old, mut new) = (store_of(&spec.name), store_of(&first), store_of(&second));

    write(by_alias.as_mut(), spec, &[1, 2], 5);
    admin.create(&second, spec).expect("made");
    assert_eq!(generations(admin, spec), [first.clone(), second.clone()]);
    assert_eq!(versions(new.as_mut()), BTreeMap::new());
    write(new.as_mut(), spec, &[1, 2, 3], 7);
    assert_eq!(admin.alias(&spec.name), Ok(Some(first.clone())));
    assert_eq!(versions(old.as_mut()), rows(&[1, 2], 5));
    assert_eq!(versions(new.as_mut()), rows(&[1, 2, 3], 7));
    assert_eq!(read(by_alias.as_mut()), rows(&[1, 2], 5));

    admin.point_alias(&spec.name, &second).expect("it goes over");
    assert_eq!(admin.alias(&spec.name), Ok(Some(second.clone())));
    assert_eq!(read(by_alias.as_mut()), rows(&[1, 2, 3], 7), "a client that was there before asks the new one");
    write(by_alias.as_mut(), spec, &[4], 9);
    assert_eq!(versions(old.as_mut()), rows(&[1, 2], 5), "the old one is left as it was");

    admin.drop_collection(&second).expect_err("the alias stands for it");
    admin.drop_collection(&first).expect("dropped");
    assert_eq!(generations(admin, spec), [second]);
}

fn generations(admin: &mut dyn VectorAdmin, spec: &CollectionSpec) -> Vec<String> {
    let mut names = admin.collections().expect("listed");
    names.retain(|name| name.starts_with(&format!("{}__g", spec.name)));
    names.sort();
    names
}

fn version(hlc: u64) -> Version {
    Version { hlc: Hlc(hlc), origin: Region::new("us"), sequence: 1 }
}

fn rows(ids: &[i64], hlc: u64) -> BTreeMap<VectorId, Version> {
    ids.iter().map(|id| (VectorId::Int(*id), version(hlc))).collect()
}

fn write(store: &mut dyn VectorStore, spec: &CollectionSpec, ids: &[i64], hlc: u64) {
    let batch = RowBatch {
        ids: ids.iter().map(|id| VectorId::Int(*id)).collect(),
        vectors: vec![0.5; ids.len() * spec.dimension],
        versions: vec![version(hlc); ids.len()],
        metadata: vec![b"{}".to_vec(); ids.len()],
        deletes: Vec::new(),
    };
    ask(store, CollectionId(0), StoreRequest::Write(Arc::new(batch))).expect("acknowledged");
}

fn versions(store: &mut dyn VectorStore) -> BTreeMap<VectorId, Version> {
    match ask(store, CollectionId(0), StoreRequest::Scan { after: None, limit: 100 }) {
        Ok(StoreReply::Scanned(page)) => with_versions(page.rows),
        other => panic!("a question was answered with {other:?}"),
    }
}

fn with_versions(rows: Vec<StoredVersion>) -> BTreeMap<VectorId, Version> {
    rows.into_iter().map(|row| (row.id, row.version.expect("it was written with one"))).collect()
}

fn read(store: &mut dyn VectorStore) -> BTreeMap<VectorId, Version> {
    let ids = (1..=3).map(VectorId::Int).collect();
    match ask(store, CollectionId(0), StoreRequest::ReadBack(ids)) {
        Ok(StoreReply::ReadBack(found)) => with_versions(found),
        other => panic!("a question was answered with {other:?}"),
    }
}
