//! [`Collection`]: a kind of record with lists, and the list handlers of all kinds.
//!
//! A path lists all records of a kind (`/v1/ports`) or those of a [`Parent`] (`/v1/nodes/{node}/ports`). A list at
//! `…/detail` shows all fields. Arguments are checked after the parent, in Ironic's order: unknown names, the
//! selection of fields, the filters, and at last order and marker.

use uuid::Uuid;

use super::fault::Fault;
use super::list::{Listing, PAGE_ARGUMENTS, RecordFilter};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use super::resource::{ApiResource, FieldSelection};
use super::version::Microversion;
use crate::model::Node;

/// A kind of record that the API lists.
pub(super) trait Collection: ApiResource {
    /// The query arguments that filter the list.
    const FILTERS: &'static [&'static str] = &[];
    /// The first microversion of each filter that came after the list; below it, the filter is rejected with 406. The
    /// table includes unsupported filters of later microversions.
    const FILTER_VERSIONS: &'static [(&'static str, u16)] = &[];
    /// The first microversion with `?detail=`; `None` for a list that always has all fields.
    const DETAIL_SINCE: Option<u16> = Some(43);

    /// The arguments that select the fields of the list.
    const SELECTION_ARGUMENTS: &'static [&'static str] =
        if Self::DETAIL_SINCE.is_some() { &["fields", "detail"] } else { &["fields"] };

    /// Builds the filter from the query. The scope of the path overrides the scope in the query.
    fn build_filter(
        request: &ApiRequest,
        scope: Scope,
    ) -> impl Future<Output = Result<RecordFilter<Self>, Fault>> + Send;
}

/// A kind of record with lists of other records below its path.
pub(super) trait Parent: ApiResource {
    /// Finds the record by the name or UUID in a path.
    fn find(request: &ApiRequest, ident: &str) -> impl Future<Output = Result<Self, Fault>> + Send;

    /// The scope of the lists below the record.
    fn scope(&self) -> Scope;
}

/// The records that a list is limited to; by default all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scope {
    pub(super) node: Option<Uuid>,
    pub(super) chassis: Option<Uuid>,
    pub(super) portgroup: Option<Uuid>,
}

impl Scope {
    /// The node of the path, or the node that `?node=` names.
    pub(super) async fn resolve_node(self, request: &ApiRequest) -> Result<Option<Uuid>, Fault> {
        match request.query.text("node")? {
            Some(ident) if self.node.is_none() => Ok(Some(Node::find(request, ident).await?.uuid)),
            _ => Ok(self.node),
        }
    }
}

/// The fields that a list shows.
#[derive(Debug, Clone, Copy)]
enum ListForm {
    /// The summary, or the selection of the query.
    Summary,
    /// All fields, at `…/detail`.
    Detail,
}

/// `GET /v1/RECORDS`
pub(super) async fn list<R: Collection>(request: ApiRequest) -> HandlerResult {
    list_page::<R>(&request, R::PATH, Scope::default(), ListForm::Summary).await
}

/// `GET /v1/RECORDS/detail`
pub(super) async fn detail<R: Collection>(request: ApiRequest) -> HandlerResult {
    list_page::<R>(&request, R::PATH, Scope::default(), ListForm::Detail).await
}

/// `GET /v1/PARENTS/{parent}/RECORDS`
pub(super) async fn list_of<P: Parent, R: Collection>(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    list_page_of::<P, R>(&request, &ident, ListForm::Summary).await
}

/// `GET /v1/PARENTS/{parent}/RECORDS/detail`
pub(super) async fn detail_of<P: Parent, R: Collection>(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    list_page_of::<P, R>(&request, &ident, ListForm::Detail).await
}

async fn list_page_of<P: Parent, R: Collection>(
    request: &ApiRequest,
    ident: &str,
    form: ListForm,
) -> HandlerResult {
    let parent = P::find(request, ident).await?;
    let path = format!("{}/{}/{}", P::PATH, parent.uuid(), R::PATH);
    list_page::<R>(request, &path, parent.scope(), form).await
}

async fn list_page<R: Collection>(
    request: &ApiRequest,
    path: &str,
    scope: Scope,
    form: ListForm,
) -> HandlerResult {
    let (path, selection_arguments) = match form {
        ListForm::Summary => (path.to_owned(), R::SELECTION_ARGUMENTS),
        ListForm::Detail => (format!("{path}/detail"), &[][..]),
    };
    let mut allowed = [&PAGE_ARGUMENTS, selection_arguments, R::FILTERS].concat();
    allowed.extend(R::FILTER_VERSIONS.iter().map(|(name, _)| *name));
    request.query.reject_unknown(&allowed)?;
    let selection = match form {
        ListForm::Summary => {
            let detail_since = Microversion(R::DETAIL_SINCE.unwrap_or_default());
            FieldSelection::for_list(R::FIELDS, request, detail_since)?
        }
        ListForm::Detail => FieldSelection::All,
    };
    for (name, since) in R::FILTER_VERSIONS {
        if request.query.has(name) {
            request.require_version(*since)?;
        }
    }
    let filter = R::build_filter(request, scope).await?;
    Listing { request, path, selection, filter }.page().await.map(Reply::Json)
}
