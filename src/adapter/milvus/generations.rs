//! Physical collections behind their aliases, for the commands that make and swap them.

use super::MilvusSettings;
use super::admin::{MilvusAdmin, asking};
use crate::base::error::{Error, Result};
use crate::port::vector::VectorAdmin;
use crate::record::collection::CollectionSpec;
use milvus::v2::prelude::{AlterAliasRequest, DropCollectionRequest, ListCollectionsRequest};
use tokio::runtime::Handle;

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

    fn point_alias(&mut self, name: &str, physical: &str) -> Result<()> {
        let doing = format!("to let the alias {name} stand for {physical}");
        let request = AlterAliasRequest::builder().alias(name).collection_name(physical).build().map_err(asking(&doing))?;
        self.runtime.block_on(self.admin.client().alter_alias(request)).map_err(asking(&doing))
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
}
