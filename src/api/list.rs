//! [`Listing`]: paginated lists of records with filters and sort order.
//!
//! Records are read from the store in chunks. Memory holds at most one page and one chunk, whatever the number of
//! records and the order. A page in an order other than the store's is the `limit` smallest records behind the
//! marker, collected in one pass over all records.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::fault::Fault;
use super::field::Field;
use super::query::Query;
use super::request::ApiRequest;
use super::resource::{ApiResource, FieldSelection, show};

/// The maximum and default number of records in a page (Ironic's `[api]max_limit`).
const MAX_PAGE_LENGTH: usize = 1000;
/// The number of records read from the store at once.
const CHUNK: usize = 256;

/// The query arguments of every list.
pub(super) const PAGE_ARGUMENTS: [&str; 4] = ["limit", "marker", "sort_key", "sort_dir"];

/// Selects the records of a list.
pub(super) struct RecordFilter<R> {
    /// Limits the list to one node's records.
    node_uuid: Option<Uuid>,
    matches: Box<dyn Fn(&R) -> bool + Send + Sync>,
    is_unique: bool,
}

impl<R> RecordFilter<R> {
    /// Selects matching records; with a node, only the records of this node.
    pub(super) fn new(node_uuid: Option<Uuid>, matches: impl Fn(&R) -> bool + Send + Sync + 'static) -> Self {
        Self { node_uuid, matches: Box::new(matches), is_unique: false }
    }

    /// States whether at most one record matches, which rules out a next page.
    pub(super) fn unique(self, is_unique: bool) -> Self {
        Self { is_unique, ..self }
    }
}

/// A list request.
pub(super) struct Listing<'a, R> {
    /// The request.
    pub(super) request: &'a ApiRequest,
    /// The path of the list below `/v1/`.
    pub(super) path: String,
    /// The attributes to include.
    pub(super) selection: FieldSelection,
    /// Selects the records to include.
    pub(super) filter: RecordFilter<R>,
}

impl<R: ApiResource> Listing<'_, R> {
    /// Builds the requested page.
    pub(super) async fn page(self) -> Result<Value, Fault> {
        let query = &self.request.query;
        let limit = parse_limit(query)?;
        let (sort_key, key) = parse_sort_key(R::FIELDS, self.request)?;
        let direction = parse_sort_direction(query)?;
        let descending = direction == "desc";
        let order = Order { key, descending };
        let marker = self.find_marker(query.uuid("marker")?).await?;
        let records = match (&order.key, descending) {
            (None, false) => self.collect_in_store_order(marker, limit).await?,
            _ => self.collect_in_order(&order, marker, limit).await?,
        };
        let last = records.last().map(R::uuid).filter(|_| records.len() == limit && !self.filter.is_unique);
        let items = records.iter().map(|record| show(record, self.request, &self.selection)).collect();
        let mut page = Map::from_iter([(R::LIST.to_owned(), Value::Array(items))]);
        if let Some(last) = last {
            let rest = query.next_page(&[("sort_key", sort_key), ("sort_dir", direction)], limit, last);
            page.insert("next".into(), format!("{}?{rest}", self.request.links.url(&self.path)).into());
        }
        Ok(page.into())
    }

    async fn find_marker(&self, marker: Option<Uuid>) -> Result<Option<R>, Fault> {
        let Some(marker) = marker else { return Ok(None) };
        match self.request.operator.inventory.get::<R>(marker).await? {
            Some(record) => Ok(Some(record.value)),
            None => Err(Fault::not_found::<R>(marker)),
        }
    }

    /// Reads records behind `after` in order of creation until the page is full.
    async fn collect_in_store_order(&self, mut after: Option<R>, limit: usize) -> Result<Vec<R>, Fault> {
        let mut records = Vec::new();
        // Without a filter, one page of records is enough. With a filter, the next reads are full chunks.
        let mut max = limit.min(CHUNK);
        while let Some(chunk) = self.read_chunk(after.as_ref(), max).await? {
            max = CHUNK;
            after = chunk.last().cloned();
            records.extend(chunk.into_iter().filter(|record| (self.filter.matches)(record)));
            if records.len() >= limit {
                records.truncate(limit);
                break;
            }
        }
        Ok(records)
    }

    /// Collects the first records behind the marker in any other order, out of all records.
    async fn collect_in_order(
        &self,
        order: &Order,
        marker: Option<R>,
        limit: usize,
    ) -> Result<Vec<R>, Fault> {
        let marker = marker.map(|record| order.rank(&record, self.request));
        let mut first = BTreeMap::new();
        let mut after = None;
        while let Some(chunk) = self.read_chunk(after.as_ref(), CHUNK).await? {
            after = chunk.last().cloned();
            for record in chunk.into_iter().filter(|record| (self.filter.matches)(record)) {
                let rank = order.rank(&record, self.request);
                if marker.as_ref().is_some_and(|marker| rank <= *marker) {
                    continue;
                }
                first.insert(rank, record);
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        Ok(first.into_values().collect())
    }

    async fn read_chunk(&self, after: Option<&R>, max: usize) -> Result<Option<Vec<R>>, Fault> {
        let inventory = &self.request.operator.inventory;
        let chunk = match self.filter.node_uuid {
            Some(node) => inventory.list_of(node, after, max).await?,
            None => inventory.list(after, max).await?,
        };
        let records: Vec<R> = chunk.into_iter().map(|record| record.value).collect();
        Ok(if records.is_empty() { None } else { Some(records) })
    }
}

/// Whether a matching record exists.
pub(super) async fn exists<R: ApiResource>(
    request: &ApiRequest,
    filter: RecordFilter<R>,
) -> Result<bool, Fault> {
    let listing = Listing { request, path: String::new(), selection: FieldSelection::Summary, filter };
    Ok(!listing.collect_in_store_order(None, 1).await?.is_empty())
}

/// Reads the number of records in a page.
pub(super) fn parse_limit(query: &Query) -> Result<usize, Fault> {
    match query.integer("limit")? {
        None => Ok(MAX_PAGE_LENGTH),
        Some(limit) if limit <= 0 => Err(Fault::Invalid("Limit must be positive".into())),
        Some(limit) => Ok(usize::try_from(limit).unwrap_or(MAX_PAGE_LENGTH).min(MAX_PAGE_LENGTH)),
    }
}

/// Reads `sort_key`: the name, and the field; no field for `id`, which in Ironic is the order of creation.
pub(super) fn parse_sort_key(
    fields: &[Field],
    request: &ApiRequest,
) -> Result<(&'static str, Option<&'static str>), Fault> {
    let requested = request.query.text("sort_key")?.unwrap_or("id");
    if requested == "id" {
        return Ok(("id", None));
    }
    match fields.iter().find(|field| field.name == requested) {
        Some(field) if !field.is_in(request.version) => Err(Fault::needs_version(field.since)),
        Some(field) if field.is_sortable() => Ok((field.name, Some(field.name))),
        _ => {
            Err(Fault::Invalid(format!("The sort_key value \"{requested}\" is an invalid field for sorting")))
        }
    }
}

/// Reads `sort_dir`.
pub(super) fn parse_sort_direction(query: &Query) -> Result<&str, Fault> {
    match query.text("sort_dir")?.unwrap_or("asc") {
        direction @ ("asc" | "desc") => Ok(direction),
        other => Err(Fault::Invalid(format!(
            "Invalid sort direction: {other}. Acceptable values are 'asc' or 'desc'"
        ))),
    }
}

/// The sort order of a list. Records with equal keys are sorted by age, in the same direction.
struct Order {
    key: Option<&'static str>,
    descending: bool,
}

/// A record's position in an order.
struct Rank {
    key: SortKey,
    place: String,
    descending: bool,
}

/// A value in SQL's sort order: unset values come first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Unset,
    Flag(bool),
    Number(i64),
    Text(String),
}

impl Order {
    fn rank<R: ApiResource>(&self, record: &R, request: &ApiRequest) -> Rank {
        let key = match self.key.map(|name| record.field(name, request)) {
            Some(Value::Bool(flag)) => SortKey::Flag(flag),
            Some(Value::Number(number)) => SortKey::Number(number.as_i64().unwrap_or_default()),
            Some(Value::String(text)) => SortKey::Text(text),
            _ => SortKey::Unset,
        };
        Rank { key, place: record.sort_key(), descending: self.descending }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let ascending = self.key.cmp(&other.key).then_with(|| self.place.cmp(&other.place));
        if self.descending { ascending.reverse() } else { ascending }
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}
