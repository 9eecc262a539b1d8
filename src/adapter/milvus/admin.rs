//! The collections themselves: created where they are missing, checked where they are there, loaded, measured.

use super::connection::{Service, lazy_service, sdk_config};
use super::schema::{differences, first_generation, index_differences, index_of, schema_of};
use super::{MilvusSettings, StoredRow, read};
use crate::base::error::{Error, Result};
use crate::port::vector::StoreError;
use crate::record::collection::{CollectionSpec, Collections, VECTOR_COLUMN};
use milvus::v2::error::Error as SdkError;
use milvus::v2::prelude::{
    CheckHealthRequest, ClientV2, CollectionDesc, CreateAliasRequest, CreateCollectionRequest, CreateIndexRequest,
    DescribeCollectionRequest, DescribeIndexRequest, GetLoadStateRequest, GetServerVersionRequest, IndexDesc,
    LoadCollectionRequest, LoadState,
};
use std::fmt;
use std::time::Duration;

/// Creating and loading take longer than writing a batch.
const ADMIN_DEADLINE: Duration = Duration::from_secs(30);
const LOAD_DEADLINE: Duration = Duration::from_secs(120);

/// Codes of Milvus that say "there is none" (2.3 gives the old code alone for some).
const COLLECTION_NOT_FOUND: i32 = 100;
const INDEX_NOT_FOUND: i32 = 700;
const DATABASE_NOT_FOUND: i32 = 800;
const LEGACY_COLLECTION_NOT_EXISTS: i32 = 4;
const LEGACY_INDEX_NOT_EXIST: i32 = 25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// A worker does not start with it.
    Refuse,
    Warn,
}

/// What is wrong with a collection, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    pub collection: String,
    pub problem: String,
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "collection {}: {}; {}", self.collection, self.problem, self.remedy)
    }
}

/// What stands under a configured name.
enum Standing {
    Nothing,
    /// An alias, as it should be, of this collection.
    Alias(Box<CollectionDesc>),
    /// A collection of that very name.
    Collection,
}

/// Works outside of the record path: at a worker's start, in `doctor`, in tests.
pub struct MilvusAdmin {
    client: ClientV2,
    service: Service,
}

impl MilvusAdmin {
    pub async fn connect(settings: &MilvusSettings) -> Result<Self> {
        let service = lazy_service(settings)?;
        let client = match ClientV2::new(&sdk_config(settings)).await {
            Ok(client) => client,
            Err(error) => return Err(not_connected(settings, &error)),
        };
        client.set_rpc_deadline(ADMIN_DEADLINE);
        Ok(Self { client, service })
    }

    pub async fn version(&self) -> Result<String> {
        let request = GetServerVersionRequest::builder().build().map_err(asking("the version"))?;
        Ok(self.client.server_version(request).await.map_err(asking("the version"))?.version().to_owned())
    }

    /// Why Milvus calls itself unhealthy; nothing if it does not.
    pub async fn health(&self) -> Result<Vec<String>> {
        let request = CheckHealthRequest::builder().build().map_err(asking("the health"))?;
        let health = self.client.check_health(request).await.map_err(asking("the health"))?;
        match (health.is_healthy(), health.reasons()) {
            (true, _) => Ok(Vec::new()),
            (false, []) => Ok(vec!["it gives no reason".to_owned()]),
            (false, reasons) => Ok(reasons.to_vec()),
        }
    }

    /// Everything that differs from the configuration. Changes nothing.
    pub async fn check(&self, collections: &Collections) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (_, spec) in collections.iter() {
            let standing = self.standing(&spec.name).await?;
            findings.extend(self.compare(spec, &standing).await?);
            if matches!(standing, Standing::Alias(_)) && self.load_state(&spec.name).await? != LoadState::Loaded {
                findings.push(not_loaded(spec));
            }
        }
        Ok(findings)
    }

    /// Creates and loads what the configuration wants; fails with every finding that forbids a start, and answers
    /// with the others. Workers that start at once may all call it.
    pub async fn prepare(&self, collections: &Collections) -> Result<Vec<Finding>> {
        for (_, spec) in collections.iter().filter(|(_, spec)| spec.auto_create) {
            if let Standing::Nothing = self.standing(&spec.name).await? {
                self.create(spec).await?;
            }
        }
        let mut findings = Vec::new();
        for (_, spec) in collections.iter() {
            let standing = self.standing(&spec.name).await?;
            findings.extend(self.compare(spec, &standing).await?);
        }
        let (faults, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.severity == Severity::Refuse);
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(|finding| format!("  {finding}")).collect();
            return Err(Error::refuse(format!("Milvus does not fit the configuration:\n{}", faults.join("\n"))));
        }
        for sync in [false, true] {
            for (_, spec) in collections.iter() {
                self.load(&spec.name, sync).await?;
            }
        }
        Ok(warnings)
    }

    /// Visits every row of a collection in the order of ids, read with strong consistency.
    pub async fn scan(&self, spec: &CollectionSpec, visit: &mut dyn FnMut(StoredRow)) -> Result<()> {
        read::scan(self.service.clone(), spec, visit).await.map_err(|error| match error {
            StoreError::Refused(_) => Error::refuse(format!("reading {}: {error}", spec.name)),
            _ => Error::retry(format!("reading {}: {error}", spec.name)),
        })
    }

    pub(super) fn service(&self) -> Service {
        self.service.clone()
    }

    async fn standing(&self, name: &str) -> Result<Standing> {
        let Some(found) = self.describe(name).await? else { return Ok(Standing::Nothing) };
        // Asked for an alias, 2.3 repeats it as the collection's name and tells the truth in the list.
        let is_alias = found.get_collection_name() != name || found.get_aliases().iter().any(|alias| alias == name);
        Ok(if is_alias { Standing::Alias(Box::new(found)) } else { Standing::Collection })
    }

    /// What stands there against what the configuration says.
    async fn compare(&self, spec: &CollectionSpec, standing: &Standing) -> Result<Vec<Finding>> {
        match standing {
            Standing::Alias(found) => {
                let mut findings = differences(spec, found);
                let index = self.vector_index(&spec.name).await?;
                findings.extend(index_differences(spec, index.as_ref()));
                Ok(findings)
            }
            Standing::Collection => Ok(vec![taken(spec)]),
            Standing::Nothing => Ok(missing(spec).into_iter().collect()),
        }
    }

    async fn vector_index(&self, name: &str) -> Result<Option<IndexDesc>> {
        let request = DescribeIndexRequest::builder().collection_name(name).build().map_err(asking("the index"))?;
        match self.client.describe_index(request).await {
            Ok(response) => Ok(response.indexes().iter().find(|index| index.get_field_name() == VECTOR_COLUMN).cloned()),
            Err(error) if is_absence(&error, INDEX_NOT_FOUND, LEGACY_INDEX_NOT_EXIST) => Ok(None),
            Err(error) => Err(asking("the index")(error)),
        }
    }

    /// Collection, index, alias: each step may have been done already, by a worker that died or by one that
    /// starts beside us. Only the alias makes it visible, so it comes last.
    async fn create(&self, spec: &CollectionSpec) -> Result<()> {
        let physical = first_generation(&spec.name);
        let doing = |what: &str| format!("creating the {what} of collection {}", spec.name);
        self.create_physical(&physical, spec).await?;
        let request = CreateAliasRequest::builder().collection_name(&physical).alias(&spec.name).build();
        let created = self.client.create_alias(request.map_err(asking(&doing("alias")))?).await;
        match (created, self.standing(&spec.name).await?) {
            (Ok(()), _) | (Err(_), Standing::Alias(_)) => Ok(()),
            (Err(error), _) => Err(asking(&doing("alias"))(error)),
        }
    }

    /// The collection itself with its index, without an alias.
    pub(super) async fn create_physical(&self, physical: &str, spec: &CollectionSpec) -> Result<()> {
        let doing = |what: &str| format!("creating the {what} of {physical}");
        if let Standing::Nothing = self.standing(physical).await? {
            let request = CreateCollectionRequest::builder().collection_name(physical).schema(schema_of(spec)).build();
            let request = request.map_err(asking(&doing("schema")))?;
            self.client.create_collection(request).await.map_err(asking(&doing("schema")))?;
        }
        if self.vector_index(physical).await?.is_none() {
            let request = CreateIndexRequest::builder().collection_name(physical).index_param(index_of(spec)).sync(false);
            let request = request.build().map_err(asking(&doing("index")))?;
            self.client.create_index(request).await.map_err(asking(&doing("index")))?;
        }
        Ok(())
    }

    /// The collection that the alias stands for, if it is an alias.
    pub(super) async fn behind(&self, alias: &str) -> Result<Option<CollectionDesc>> {
        match self.standing(alias).await? {
            Standing::Alias(found) => Ok(Some(*found)),
            Standing::Nothing | Standing::Collection => Ok(None),
        }
    }

    pub(super) async fn describe(&self, name: &str) -> Result<Option<CollectionDesc>> {
        let request = DescribeCollectionRequest::builder().collection_name(name).build().map_err(asking("the collection"))?;
        match self.client.describe_collection(request).await {
            Ok(response) => Ok(Some(response.description().clone())),
            Err(error) if is_absence(&error, COLLECTION_NOT_FOUND, LEGACY_COLLECTION_NOT_EXISTS) => Ok(None),
            Err(error) => Err(asking(name)(error)),
        }
    }

    pub(super) fn client(&self) -> &ClientV2 {
        &self.client
    }

    async fn load_state(&self, name: &str) -> Result<LoadState> {
        let request = GetLoadStateRequest::builder().collection_name(name).build().map_err(asking("the load state"))?;
        Ok(self.client.get_load_state(request).await.map_err(asking("the load state"))?.state())
    }

    /// Asks for it to be loaded; with `sync`, and waits until it is.
    pub(super) async fn load(&self, name: &str, sync: bool) -> Result<()> {
        if self.load_state(name).await? == LoadState::Loaded {
            return Ok(());
        }
        let request = LoadCollectionRequest::builder().collection_name(name).sync(sync);
        let request = request.timeout_ms(LOAD_DEADLINE.as_millis() as i64).build().map_err(asking("to load"))?;
        self.client.load_collection(request).await.map_err(asking(&format!("to load {name}")))
    }
}

fn not_loaded(spec: &CollectionSpec) -> Finding {
    Finding {
        severity: Severity::Warn,
        collection: spec.name.clone(),
        problem: "is not loaded: it takes writes, but no search finds them".to_owned(),
        remedy: "load it, or start a worker, which does so".to_owned(),
    }
}

fn taken(spec: &CollectionSpec) -> Finding {
    Finding {
        severity: Severity::Refuse,
        collection: spec.name.clone(),
        problem: "the name belongs to a collection itself, not to an alias".to_owned(),
        remedy: format!(
            "rename the collection to `{}` and create the alias `{}` for it, or configure another name",
            first_generation(&spec.name),
            spec.name
        ),
    }
}

fn missing(spec: &CollectionSpec) -> Option<Finding> {
    if spec.auto_create {
        return None;
    }
    let remedy = format!(
        "set `auto_create = true`, or create the collection `{}` and the alias `{}` for it",
        first_generation(&spec.name),
        spec.name
    );
    Some(Finding {
        severity: Severity::Refuse,
        collection: spec.name.clone(),
        problem: "does not exist and `auto_create` is off".to_owned(),
        remedy,
    })
}

fn is_absence(error: &SdkError, code: i32, legacy_code: i32) -> bool {
    match error {
        SdkError::RetryExhausted { source, .. } => is_absence(source, code, legacy_code),
        SdkError::Server(error) => error.code() == code || (error.code() == 0 && error.legacy_code() == legacy_code),
        _ => false,
    }
}

fn not_connected(settings: &MilvusSettings, error: &SdkError) -> Error {
    let uri = &settings.uri;
    match error {
        SdkError::Validation(error) => Error::refuse(format!("the settings for Milvus at {uri}: {error}")),
        SdkError::Grpc(status) if status.code() == tonic::Code::Unauthenticated => {
            Error::refuse(format!("Milvus at {uri} does not accept the user and password or token: {}", status.message()))
        }
        SdkError::Server(answer) if answer.code() == DATABASE_NOT_FOUND => {
            let name = &settings.database;
            Error::refuse(format!("Milvus at {uri} has no database `{name}`; create it or leave `database` out"))
        }
        _ => Error::retry(format!("Milvus at {uri} is not reached: {error}; is it running, is its address right?")),
    }
}

/// An error of the SDK with what was being asked. Milvus may answer otherwise later, but not to a bad request.
pub(super) fn asking(what: &str) -> impl Fn(SdkError) -> Error {
    move |error| match error {
        SdkError::Validation(_) | SdkError::Conversion(_) => Error::refuse(format!("asking Milvus {what}: {error}")),
        _ => Error::retry(format!("asking Milvus {what}: {error}")),
    }
}
