//! [`Route`]: the description of one operation, from which the router and the OpenAPI document are built.

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::SharedState;
use super::collection::{self, Collection, Parent};
use super::fault::{Fault, kind_name};
use super::field::Field;
use super::later_paths;
use super::list::PAGE_ARGUMENTS;
use super::request::RequestContext;
use super::resource::ApiResource;
use super::version::Microversion;
use crate::auth::AccessRole;

/// A method on a path with its description and its handler.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// A short summary for the OpenAPI document.
    pub(super) summary: &'static str,
    pub(super) since: Microversion,
    /// Builds the fault below that microversion.
    absent: fn(Microversion) -> Fault,
    pub(super) body: RequestBody,
    pub(super) response: SuccessResponse,
    /// The query arguments.
    pub(super) query: Vec<&'static str>,
    /// The role that the caller must have.
    pub(super) role: AccessRole,
    /// Whether the operation is volboot's extension, absent from Ironic.
    pub(super) extension: bool,
    handler: MethodRouter<SharedState>,
}

/// A kind of record, as described in the OpenAPI document.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordSchema {
    /// The name of the kind.
    pub(super) name: &'static str,
    /// The key of the array in list responses.
    pub(super) list: &'static str,
    pub(super) fields: &'static [Field],
}

/// The content of a request's body.
#[derive(Debug, Clone, Copy)]
pub(super) enum RequestBody {
    None,
    /// The fields of a new record.
    Creation(RecordSchema),
    /// A JSON patch.
    Patch,
    /// The arguments of an action.
    Arguments(&'static [&'static str]),
}

/// The successful response of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum SuccessResponse {
    /// 200 with an object.
    Object,
    /// 200 with a record.
    Record(RecordSchema),
    /// 200 with a page of records.
    Page(RecordSchema),
    /// 201 with the new record.
    CreatedRecord(RecordSchema),
    /// 200 with a text of this content type.
    Text(&'static str),
    /// 201 with an object.
    CreatedObject,
    /// 202 without a body.
    Accepted,
    /// 204.
    NoContent,
}

impl Route {
    pub(super) fn get<T: 'static, H: Handler<T, SharedState>>(
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, summary, handler)
    }

    pub(super) fn post<T: 'static, H: Handler<T, SharedState>>(
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, summary, handler)
    }

    pub(super) fn put<T: 'static, H: Handler<T, SharedState>>(
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::PUT, MethodFilter::PUT, path, summary, handler)
    }

    pub(super) fn patch<T: 'static, H: Handler<T, SharedState>>(
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::PATCH, MethodFilter::PATCH, path, summary, handler)
    }

    pub(super) fn delete<T: 'static, H: Handler<T, SharedState>>(
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::DELETE, MethodFilter::DELETE, path, summary, handler)
    }

    /// The list of all records of a kind.
    pub(super) fn list<R: Collection>(path: &'static str, summary: &'static str) -> Self {
        let route = Self::get(path, summary, collection::list::<R>).returns_page::<R>();
        route.query(R::SELECTION_ARGUMENTS).query(R::FILTERS)
    }

    /// The list of all records of a kind with all their fields.
    pub(super) fn detail<R: Collection>(path: &'static str, summary: &'static str) -> Self {
        Self::get(path, summary, collection::detail::<R>).returns_page::<R>().query(R::FILTERS)
    }

    /// The list of a parent's records.
    pub(super) fn list_of<P: Parent, R: Collection>(path: &'static str, summary: &'static str) -> Self {
        let route = Self::get(path, summary, collection::list_of::<P, R>).returns_page::<R>();
        route.query(R::SELECTION_ARGUMENTS)
    }

    /// The list of a parent's records with all their fields.
    pub(super) fn detail_of<P: Parent, R: Collection>(path: &'static str, summary: &'static str) -> Self {
        Self::get(path, summary, collection::detail_of::<P, R>).returns_page::<R>()
    }

    fn new<T: 'static, H: Handler<T, SharedState>>(
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        let (body, response, query) = (RequestBody::None, SuccessResponse::Object, Vec::new());
        let role = if method.is_safe() { AccessRole::Reader } else { AccessRole::Member };
        let handler = on(filter, handler);
        let (since, extension) = (Microversion::MIN, false);
        let absent = |since| Fault::no_path(Some(since));
        Self { method, path, summary, since, absent, body, response, query, role, extension, handler }
    }

    /// Declares that the response is a record.
    pub(super) fn returns_record<R: ApiResource>(self) -> Self {
        Self { response: SuccessResponse::Record(RecordSchema::of::<R>()), ..self }.query(&["fields"])
    }

    fn returns_page<R: ApiResource>(self) -> Self {
        Self { response: SuccessResponse::Page(RecordSchema::of::<R>()), ..self }.query(&PAGE_ARGUMENTS)
    }

    /// Declares that the response is an object with these fields.
    pub(super) fn returns_schema(self, schema: RecordSchema) -> Self {
        Self { response: SuccessResponse::Record(schema), ..self }.query(&["fields"])
    }

    /// Declares that the response is a page of objects with these fields.
    pub(super) fn returns_schema_page(self, schema: RecordSchema) -> Self {
        Self { response: SuccessResponse::Page(schema), ..self }
            .query(&PAGE_ARGUMENTS)
            .query(&["fields", "detail"])
    }

    /// Declares that the body is a new record and the response the created record.
    pub(super) fn creates<R: ApiResource>(self) -> Self {
        let schema = RecordSchema::of::<R>();
        Self { body: RequestBody::Creation(schema), response: SuccessResponse::CreatedRecord(schema), ..self }
    }

    /// Declares that the body is a patch and the response the changed record.
    pub(super) fn patches<R: ApiResource>(self) -> Self {
        Self { body: RequestBody::Patch, response: SuccessResponse::Record(RecordSchema::of::<R>()), ..self }
    }

    /// Declares that the response is 201 with an object.
    pub(super) fn returns_created(self) -> Self {
        Self { response: SuccessResponse::CreatedObject, ..self }
    }

    /// Declares that the response is text of a content type.
    pub(super) fn content_type(self, kind: &'static str) -> Self {
        Self { response: SuccessResponse::Text(kind), ..self }
    }

    /// Marks the operation as an extension.
    pub(super) fn extension(self) -> Self {
        Self { extension: true, ..self }
    }

    /// Declares that the response is 204.
    pub(super) fn returns_no_content(self) -> Self {
        Self { response: SuccessResponse::NoContent, ..self }
    }

    /// Declares that the response is 202 without a body.
    pub(super) fn returns_accepted(self) -> Self {
        Self { response: SuccessResponse::Accepted, ..self }
    }

    /// Declares the arguments in the body.
    pub(super) fn body(self, arguments: &'static [&'static str]) -> Self {
        Self { body: RequestBody::Arguments(arguments), ..self }
    }

    /// Declares query arguments.
    pub(super) fn query(mut self, arguments: &[&'static str]) -> Self {
        self.query.extend_from_slice(arguments);
        self
    }

    /// Requires a role other than the default of the method.
    pub(super) fn role(self, role: AccessRole) -> Self {
        Self { role, ..self }
    }

    /// Sets the first microversion with this path; below it, the path does not exist.
    pub(super) fn since(self, minor: u16) -> Self {
        Self { since: Microversion(minor), ..self }
    }

    /// Replaces the fault below the first microversion, where Ironic's is not 404.
    pub(super) fn absent(self, absent: fn(Microversion) -> Fault) -> Self {
        Self { absent, ..self }
    }
}

impl RecordSchema {
    fn of<R: ApiResource>() -> Self {
        Self { name: kind_name(R::KIND), list: R::LIST, fields: R::FIELDS }
    }
}

/// Builds the router, with Ironic's errors for unknown paths and methods.
pub(super) fn router(table: Vec<Route>) -> Router<SharedState> {
    let mut router = Router::new();
    for Route { path, handler, since, absent, role, .. } in table {
        let requirements = Requirements { since, absent, role };
        router = router.route(path, handler.layer(from_fn_with_state(requirements, check_access)));
    }
    router.fallback(no_route).method_not_allowed_fallback(no_method)
}

/// The requirements of a route.
#[derive(Clone, Copy)]
struct Requirements {
    since: Microversion,
    absent: fn(Microversion) -> Fault,
    role: AccessRole,
}

/// Checks the path's microversion and the caller's role.
async fn check_access(
    State(Requirements { since, absent, role }): State<Requirements>,
    request: Request,
    next: Next,
) -> Response {
    match request.extensions().get::<RequestContext>() {
        Some(context) if context.version >= since && context.role >= role => next.run(request).await,
        Some(context) if context.version >= since => {
            let (method, path) = (request.method(), request.uri().path());
            let text =
                format!("Access was denied to {method} {path}: the role {} is required.", role.as_str());
            Fault::Denied(text).into_response()
        }
        _ => absent(since).into_response(),
    }
}

async fn no_route(uri: Uri) -> Response {
    Fault::no_path(later_paths::first_version(uri.path())).into_response()
}

async fn no_method() -> Response {
    Fault::MethodNotAllowed.into_response()
}
