//! The connection: made when it is first needed, made again when it is lost, one attempt per request.

use super::{MilvusCredentials, MilvusSettings};
use crate::base::error::{Error, Result};
use milvus::proto::milvus::milvus_service_client::MilvusServiceClient;
use milvus::v2::prelude::{ConnectConfig, RetryConfig, TelemetryConfig};
use secrecy::ExposeSecret;
use std::time::Duration;
use tokio::runtime::Handle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

pub(super) type Service = MilvusServiceClient<InterceptedService<Channel, Headers>>;

/// Milvus limits its replies to 64 MiB and more; gRPC's own default of 4 MiB would fail a page of wide rows.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A peer that stops without closing its connection is found out by pings.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// What goes with every request: who asks, and of which database.
#[derive(Clone)]
pub(super) struct Headers {
    authorization: Option<MetadataValue<Ascii>>,
    database: Option<MetadataValue<Ascii>>,
}

impl tonic::service::Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(database) = &self.database {
            request.metadata_mut().insert("dbname", database.clone());
        }
        Ok(request)
    }
}

/// A service that connects by itself. To be called within a tokio runtime.
pub(super) fn lazy_service(settings: &MilvusSettings) -> Result<Service> {
    let invalid = |what: &str| Error::refuse(format!("milvus.{what} of {} cannot be used", settings.uri));
    let mut endpoint = Endpoint::from_shared(settings.uri.clone())
        .map_err(|error| Error::refuse(format!("milvus.uri `{}`: {error}; expected http://host:port", settings.uri)))?
        // Well before the request's own end: what was never sent leaves no doubt.
        .connect_timeout(settings.rpc_deadline / 2)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(settings.rpc_deadline);
    if settings.uri.starts_with("https://") {
        endpoint = endpoint
            .tls_config(ClientTlsConfig::new().with_enabled_roots())
            .map_err(|error| Error::refuse(format!("TLS to {}: {error}", settings.uri)))?;
    }
    let authorization = match sdk_config(settings).get_token() {
        Some(token) => Some(MetadataValue::try_from(token).map_err(|_| invalid("credentials"))?),
        None => None,
    };
    let database = match settings.database.as_str() {
        "" => None,
        name => Some(MetadataValue::try_from(name).map_err(|_| invalid("database"))?),
    };
    let headers = Headers { authorization, database };
    Ok(MilvusServiceClient::with_interceptor(endpoint.connect_lazy(), headers).max_decoding_message_size(REPLY_BYTES_MAX))
}

/// For calls that block their thread. A timer can be made within the runtime only.
pub(super) fn pause(runtime: &Handle, span: Duration) {
    runtime.block_on(async { tokio::time::sleep(span).await });
}

/// The SDK's settings, its own 75 retries switched off: who waits and how long is decided above.
pub(super) fn sdk_config(settings: &MilvusSettings) -> ConnectConfig {
    let config = ConnectConfig::new()
        .uri(&settings.uri)
        .database(&settings.database)
        .connect_timeout(settings.rpc_deadline)
        .rpc_timeout(settings.rpc_deadline)
        .retry(RetryConfig::new().max_attempts(1).retry_on_rate_limit(false))
        .telemetry(TelemetryConfig::new().enabled(false));
    match &settings.credentials {
        MilvusCredentials::None => config,
        MilvusCredentials::Password { user, password } => config.username(user).password(password.expose_secret()),
        MilvusCredentials::Token(token) => config.token(token.expose_secret()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_outside_of_the_runtime_may_pause() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        pause(runtime.handle(), Duration::from_millis(1));
    }
}
