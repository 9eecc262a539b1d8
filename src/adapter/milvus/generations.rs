//! Physical collections behind their aliases, for the commands that make and swap them.

use super::MilvusSettings;
use super::admin::{MilvusAdmin, asking};
use super::connection::pause;
use crate::base::error::{Error, Result};
use crate::port::vector::VectorAdmin;
use crate::record::collection::CollectionSpec;
use milvus::v2::prelude::{
    AlterAliasRequest, CreateAliasRequest, DropCollectionRequest, ListCollectionsRequest, RenameCollectionRequest,
};
use std::time::Duration;
use tokio::runtime::Handle;

const ALTERATIONS_MAX: u32 = 20;
/// A proxy's question to the root coordinator takes some milliseconds.
const ANSWERS_UNDER_WAY: Duration = Duration::from_millis(500);

/// Each call blocks the calling thread, which must not be one of the runtime's.
pub struct MilvusGenerations {
    runtime: Handle,
    admin: MilvusAdmin,
}

impl MilvusGenerations {
    pub fn connect(runtime: Handle, settings: &MilvusSettings) -> Result<Self> {
        let admin = runtime.block_on(MilvusAdmin::connect(settings))?;
        Ok(Self { runtime, admin })
    }

    fn create_alias(&self, name: &str, physical: &str) -> Result<()> {
        let doing = format!("to let a new alias {name} stand for {physical}");
        let request = CreateAliasRequest::builder().alias(name).collection_name(physical).build().map_err(asking(&doing))?;
        self.runtime.block_on(self.admin.client().create_alias(request)).map_err(asking(&doing))
    }

    fn alter_alias(&self, name: &str, physical: &str) -> Result<()> {
        let doing = format!("to let the alias {name} stand for {physical}");
        let request = AlterAliasRequest::builder().alias(name).collection_name(physical).build().map_err(asking(&doing))?;
        self.runtime.block_on(self.admin.client().alter_alias(request)).map_err(asking(&doing))
    }
}

impl VectorAdmin for MilvusGenerations {
    /// Asked for an alias, 2.3 repeats it as the collection's name; but its list of collections says which is meant.
    fn alias(&mut self, name: &str) -> Result<Option<String>> {
        let Some(found) = self.runtime.block_on(self.admin.behind(name))? else { return Ok(None) };
        if found.get_collection_name() != name {
            return Ok(Some(found.get_collection_name().to_owned()));
        }
        for physical in self.collections()? {
            let described = self.runtime.block_on(self.admin.describe(&physical))?;
            if described.is_some_and(|described| described.get_aliases().iter().any(|alias| alias == name)) {
                return Ok(Some(physical));
            }
        }
        Ok(None)
    }

    fn collections(&mut self) -> Result<Vec<String>> {
        let doing = "for its collections";
        let request = ListCollectionsRequest::builder().build().map_err(asking(doing))?;
        let listed = self.runtime.block_on(self.admin.client().list_collections(request)).map_err(asking(doing))?;
        Ok(listed.collection_names().to_vec())
    }

    fn create(&mut self, physical: &str, spec: &CollectionSpec) -> Result<()> {
        self.runtime.block_on(async {
            self.admin.create_physical(physical, spec).await?;
            self.admin.load(physical, true).await
        })
    }

    /// Milvus tells its proxies to forget the alias *before* it alters it (`alterAliasTask` of its root coordinator), so
    /// one that is asked in between learns the old collection again, or the new one with the old one's partition, and
    /// keeps that. Altered once more to the same collection, they forget that too.
    fn point_alias(&mut self, name: &str, physical: &str) -> Result<()> {
        match self.alias(name)? {
            None => self.create_alias(name, physical)?,
            Some(_) => self.alter_alias(name, physical)?,
        }
        for _ in 0..ALTERATIONS_MAX {
            // For the proxies' questions of before, whose answers nothing announces.
            pause(&self.runtime, ANSWERS_UNDER_WAY);
            self.alter_alias(name, physical)?;
            if self.reaches(name, physical)? {
                return Ok(());
            }
        }
        Err(Error::retry(format!("Milvus goes on to take the alias {name} for another collection than {physical}")))
    }

    /// A proxy looks up the collection of an index, and the partition whose state of loading is asked for, as it does for
    /// a row that is written. No two collections share an index' id or a partition.
    fn reaches(&mut self, name: &str, physical: &str) -> Result<bool> {
        let admin = &self.admin;
        let (by_alias, by_name, partition) = self.runtime.block_on(async {
            tokio::join!(admin.vector_index(name), admin.vector_index(physical), admin.partition_is_loaded(name))
        });
        match (by_alias?, by_name?) {
            (Some(by_alias), Some(by_name)) => Ok(by_alias.get_index_id() == by_name.get_index_id() && partition?),
            _ => Ok(false),
        }
    }

    fn drop_collection(&mut self, physical: &str) -> Result<()> {
        let doing = format!("to drop {physical}");
        // Not every version of Milvus refuses that by itself.
        let described = self.runtime.block_on(self.admin.describe(physical))?;
        if let Some(alias) = described.as_ref().and_then(|described| described.get_aliases().first()) {
            return Err(Error::refuse(format!("{physical} is what the alias {alias} stands for; it is not dropped")));
        }
        let request = DropCollectionRequest::builder().collection_name(physical).build().map_err(asking(&doing))?;
        self.runtime.block_on(self.admin.client().drop_collection(request)).map_err(asking(&doing))
    }

    fn rename(&mut self, physical: &str, to: &str) -> Result<()> {
        let doing = format!("to rename {physical} to {to}");
        let request = RenameCollectionRequest::builder().collection_name(physical).new_collection_name(to).build();
        let request = request.map_err(asking(&doing))?;
        self.runtime.block_on(self.admin.client().rename_collection(request)).map_err(asking(&doing))
    }
}
