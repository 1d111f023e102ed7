//! Lists: pages of records, filtered, in the order asked for, with a link to the next page.
//!
//! Records are read from the store in chunks, and no more are held than one page and one chunk, whatever the number
//! of records and the order: a page in another order than the store's is the `limit` smallest of all records
//! behind the marker, collected in one pass.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::call::Call;
use super::fault::Fault;
use super::shown::{Choice, Shown, show};

/// The longest page, and how long it is if the client does not say (Ironic's `[api]max_limit`).
const LONGEST_PAGE: usize = 1000;
/// Records read from the store at once.
const CHUNK: usize = 256;

/// The arguments that every list takes.
pub(super) const ARGUMENTS: [&str; 6] = ["limit", "marker", "sort_key", "sort_dir", "fields", "detail"];

/// Which records a list shows.
pub(super) type Filter<R> = Box<dyn Fn(&R) -> bool + Send + Sync>;

/// A list that was asked for.
pub(super) struct Listing<'a, R> {
    /// The request.
    pub(super) call: &'a Call,
    /// Where the list is, behind `/v1/`.
    pub(super) path: String,
    /// The attributes it shows.
    pub(super) choice: Choice,
    /// The node whose records it shows, if not all.
    pub(super) of_node: Option<Uuid>,
    /// Which of the records it shows.
    pub(super) keeps: Filter<R>,
}

impl<R: Shown> Listing<'_, R> {
    /// The page asked for.
    pub(super) async fn page(self) -> Result<Value, Fault> {
        let query = &self.call.query;
        let limit = limit(query.integer("limit")?)?;
        let (sort_key, key) = sort_key::<R>(self.call)?;
        let direction = query.text("sort_dir")?.unwrap_or("asc");
        let descending = match direction {
            "asc" => false,
            "desc" => true,
            _ => {
                return Err(Fault::Invalid(format!(
                    "Invalid sort direction: {direction}. Acceptable values are 'asc' or 'desc'"
                )));
            }
        };
        let order = Order { key, descending };
        let marker = self.marker(query.uuid("marker")?).await?;
        let records = match (&order.key, descending) {
            (None, false) => self.in_store_order(marker, limit).await?,
            _ => self.in_order(&order, marker, limit).await?,
        };
        let last = records.last().map(R::uuid).filter(|_| records.len() == limit);
        let shown = records.iter().map(|record| show(record, self.call, &self.choice)).collect();
        let mut page = Map::from_iter([(R::LIST.to_owned(), Value::Array(shown))]);
        if let Some(last) = last {
            let rest = query.continued(&[("sort_key", sort_key), ("sort_dir", direction)], limit, last);
            page.insert("next".into(), format!("{}?{rest}", self.call.links.to(&self.path)).into());
        }
        Ok(page.into())
    }

    async fn marker(&self, marker: Option<Uuid>) -> Result<Option<R>, Fault> {
        let Some(marker) = marker else { return Ok(None) };
        match self.call.state.inventory.get::<R>(marker).await? {
            Some(found) => Ok(Some(found.value)),
            None => Err(Fault::missing::<R>(marker)),
        }
    }

    /// The records behind `after`, by age: read until the page is full.
    async fn in_store_order(&self, mut after: Option<R>, limit: usize) -> Result<Vec<R>, Fault> {
        let mut records = Vec::new();
        // A page without a filter needs no more than itself; with one, who knows.
        let mut most = limit.min(CHUNK);
        while let Some(chunk) = self.chunk(after.as_ref(), most).await? {
            most = CHUNK;
            after = chunk.last().cloned();
            records.extend(chunk.into_iter().filter(|record| (self.keeps)(record)));
            if records.len() >= limit {
                records.truncate(limit);
                break;
            }
        }
        Ok(records)
    }

    /// The records behind the marker in any other order: the first of them out of all.
    async fn in_order(&self, order: &Order, marker: Option<R>, limit: usize) -> Result<Vec<R>, Fault> {
        let marker = marker.map(|record| order.rank(&record, self.call));
        let mut first = BTreeMap::new();
        let mut after = None;
        while let Some(chunk) = self.chunk(after.as_ref(), CHUNK).await? {
            after = chunk.last().cloned();
            for record in chunk.into_iter().filter(|record| (self.keeps)(record)) {
                let rank = order.rank(&record, self.call);
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

    async fn chunk(&self, after: Option<&R>, most: usize) -> Result<Option<Vec<R>>, Fault> {
        let inventory = &self.call.state.inventory;
        let found = match self.of_node {
            Some(node) => inventory.list_of(node, after, most).await?,
            None => inventory.list(after, most).await?,
        };
        let records: Vec<R> = found.into_iter().map(|record| record.value).collect();
        Ok(if records.is_empty() { None } else { Some(records) })
    }
}

/// Whether there is any such record.
pub(super) async fn any<R: Shown>(
    call: &Call,
    of_node: Option<Uuid>,
    keeps: Filter<R>,
) -> Result<bool, Fault> {
    let listing = Listing { call, path: String::new(), choice: Choice::Listed, of_node, keeps };
    Ok(!listing.in_store_order(None, 1).await?.is_empty())
}

fn limit(asked: Option<i64>) -> Result<usize, Fault> {
    match asked {
        None => Ok(LONGEST_PAGE),
        Some(limit) if limit <= 0 => Err(Fault::Invalid("Limit must be positive".into())),
        Some(limit) => Ok(usize::try_from(limit).unwrap_or(LONGEST_PAGE).min(LONGEST_PAGE)),
    }
}

/// The name of what to sort by, and the field; none for `id`, which in Ironic is the order of creation.
fn sort_key<R: Shown>(call: &Call) -> Result<(&'static str, Option<&'static str>), Fault> {
    let asked = call.query.text("sort_key")?.unwrap_or("id");
    if asked == "id" {
        return Ok(("id", None));
    }
    match R::FIELDS.iter().find(|field| field.name == asked) {
        Some(field) if !field.is_in(call.version) => Err(Fault::too_new()),
        Some(field) if field.is_sortable() => Ok((field.name, Some(field.name))),
        _ => Err(Fault::Invalid(format!("The sort_key value \"{asked}\" is an invalid field for sorting"))),
    }
}

/// By what a list is sorted. Records that are alike in it are sorted by age, in the same direction.
struct Order {
    key: Option<&'static str>,
    descending: bool,
}

/// A record's place in an order.
struct Rank {
    key: Key,
    place: String,
    descending: bool,
}

/// A value as SQL sorts it: what is not set comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Unset,
    Flag(bool),
    Number(i64),
    Text(String),
}

impl Order {
    fn rank<R: Shown>(&self, record: &R, call: &Call) -> Rank {
        let key = match self.key.map(|name| record.field(name, call)) {
            Some(Value::Bool(flag)) => Key::Flag(flag),
            Some(Value::Number(number)) => Key::Number(number.as_i64().unwrap_or_default()),
            Some(Value::String(text)) => Key::Text(text),
            _ => Key::Unset,
        };
        Rank { key, place: record.place(), descending: self.descending }
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
