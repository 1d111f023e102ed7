//! [`DirectStore`]: the records in etcd without a mirror. Each read is one linearizable transaction of etcd.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use volboot::store::{
    Batch, ChangeSet, Cluster, EtcdStore, Freshness, Record, Revision, Snapshot, Store, StoreAccess,
    StoreError, StoreFuture, StoreInfo, WriteError,
};

/// Where the records are in etcd.
const RECORDS: &str = "/volboot/r/";

/// Reads from etcd. All else is done by the store with the mirror.
pub(crate) struct DirectStore {
    channel: Channel,
    store: Arc<EtcdStore>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    limit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestOp {
    #[prost(message, optional, tag = "1")]
    range: Option<RangeRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnResponse {
    #[prost(message, repeated, tag = "3")]
    responses: Vec<ResponseOp>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    range: Option<RangeResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

impl KeyValue {
    fn into_record(self) -> Record {
        let key = String::from_utf8(self.key).expect("a key is text");
        let key = key.strip_prefix(RECORDS).expect("a record").to_owned();
        Record { key, revision: self.mod_revision.cast_unsigned(), value: self.value }
    }
}

impl DirectStore {
    /// Reads from one member of etcd.
    pub(crate) fn new(endpoint: &str, store: Arc<EtcdStore>) -> Self {
        let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("a URL");
        Self { channel: endpoint.tcp_nodelay(true).connect_lazy(), store }
    }

    /// Reads several ranges at one revision.
    async fn read(&self, ranges: Vec<RangeRequest>) -> Result<Vec<Vec<Record>>, StoreError> {
        let success = ranges.into_iter().map(|range| RequestOp { range: Some(range) }).collect();
        let mut grpc = Grpc::new(self.channel.clone());
        let unavailable = |error: String| StoreError::Unavailable(error);
        grpc.ready().await.map_err(|error| unavailable(error.to_string()))?;
        let (request, path) =
            (Request::new(TxnRequest { success }), PathAndQuery::from_static("/etcdserverpb.KV/Txn"));
        let response = grpc.unary(request, path, ProstCodec::<_, TxnResponse>::default()).await;
        let response = response.map_err(|error| unavailable(error.to_string()))?.into_inner();
        let ranges = response.responses.into_iter().map(|response| response.range.unwrap_or_default().kvs);
        Ok(ranges.map(|kvs| kvs.into_iter().map(KeyValue::into_record).collect()).collect())
    }
}

impl Store for DirectStore {
    fn get<'a>(&'a self, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let range = |key: &String| RangeRequest {
                key: format!("{RECORDS}{key}").into_bytes(),
                ..RangeRequest::default()
            };
            let records = self.read(keys.iter().map(range).collect()).await?;
            Ok(records.into_iter().map(|mut records| records.pop()).collect())
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move {
            let key =
                after.map_or_else(|| format!("{RECORDS}{prefix}"), |after| format!("{RECORDS}{after}\0"));
            // A prefix ends with a character below the last one of ASCII.
            let mut range_end = format!("{RECORDS}{prefix}").into_bytes();
            *range_end.last_mut().expect("a prefix") += 1;
            let range = RangeRequest { key: key.into_bytes(), range_end, limit: limit.cast_signed() as i64 };
            Ok(self.read(vec![range]).await?.pop().unwrap_or_default())
        })
    }

    fn write(&self, batch: Batch) -> StoreFuture<'_, Revision, WriteError> {
        self.store.write(batch)
    }

    fn changes(&self, after: Revision, limit: usize) -> StoreFuture<'_, ChangeSet> {
        self.store.changes(after, limit)
    }

    fn wait_for_change(&self, after: Revision) -> StoreFuture<'_, Revision> {
        self.store.wait_for_change(after)
    }

    fn access(&self) -> StoreAccess {
        self.store.access()
    }

    fn freshness(&self) -> Freshness {
        self.store.freshness()
    }

    fn last_known(self: Arc<Self>) -> Arc<dyn Store> {
        // There is no mirror.
        self
    }

    fn cluster(&self) -> &dyn Cluster {
        self.store.cluster()
    }

    fn snapshot(&self) -> StoreFuture<'_, Box<dyn Snapshot>> {
        self.store.snapshot()
    }

    fn info(&self) -> StoreFuture<'_, StoreInfo> {
        self.store.info()
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        self.store.close()
    }

    fn wait_for_failure(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        self.store.wait_for_failure()
    }
}
