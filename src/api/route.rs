//! [`Route`]: one operation of the API, from which both the router and the OpenAPI document are made.

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::Shared;
use super::call::Facts;
use super::fault::{Fault, called};
use super::field::Field;
use super::list;
use super::shown::Shown;
use super::version::Version;
use crate::auth::Right;

/// A method on a path, what it does, and who does it.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// What it does, in a few words.
    pub(super) does: &'static str,
    pub(super) since: Version,
    pub(super) takes: Takes,
    pub(super) gives: Gives,
    /// The arguments it may be given behind a `?`.
    pub(super) arguments: Vec<&'static str>,
    /// What who asks must be allowed to do.
    pub(super) right: Right,
    /// Whether it is volboot's own, and not in Ironic.
    pub(super) own: bool,
    serves: MethodRouter<Shared>,
}

/// A kind of record, as the document that describes the API knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described {
    /// What the record is called.
    pub(super) name: &'static str,
    /// The key of its lists.
    pub(super) list: &'static str,
    pub(super) fields: &'static [Field],
}

/// What a request brings.
#[derive(Debug, Clone, Copy)]
pub(super) enum Takes {
    Nothing,
    /// The fields of a new record.
    Creation(Described),
    /// A JSON patch.
    Patch,
    /// The arguments of a verb.
    Arguments(&'static [&'static str]),
}

/// What is answered if all is well.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gives {
    /// 200 and some object.
    Object,
    /// 200 and a record.
    One(Described),
    /// 200 and a page of records.
    Many(Described),
    /// 201 and the new record.
    Created(Described),
    /// 200 and a text of this kind.
    Text(&'static str),
    /// 201 and some object.
    Made,
    /// 202, and nothing.
    Accepted,
    /// 204, and nothing.
    Done,
}

impl Route {
    pub(super) fn get<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, does, handler)
    }

    pub(super) fn post<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, does, handler)
    }

    pub(super) fn put<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::PUT, MethodFilter::PUT, path, does, handler)
    }

    pub(super) fn patch<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::PATCH, MethodFilter::PATCH, path, does, handler)
    }

    pub(super) fn delete<T: 'static, H: Handler<T, Shared>>(
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        Self::new(Method::DELETE, MethodFilter::DELETE, path, does, handler)
    }

    fn new<T: 'static, H: Handler<T, Shared>>(
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        does: &'static str,
        handler: H,
    ) -> Self {
        let (takes, gives, arguments) = (Takes::Nothing, Gives::Object, Vec::new());
        let right = if method.is_safe() { Right::See } else { Right::Use };
        let serves = on(filter, handler);
        let (since, own) = (Version::MIN, false);
        Self { method, path, does, since, takes, gives, arguments, right, own, serves }
    }

    /// It answers with a record.
    pub(super) fn shows<R: Shown>(self) -> Self {
        Self { gives: Gives::One(Described::of::<R>()), ..self }.asked(&["fields"])
    }

    /// It answers with a page of records, which can be chosen by these arguments.
    pub(super) fn lists<R: Shown>(self, filters: &[&'static str]) -> Self {
        let arguments =
            if self.path.ends_with("/detail") { &list::ARGUMENTS[..4] } else { &list::ARGUMENTS[..] };
        Self { gives: Gives::Many(Described::of::<R>()), ..self }.asked(arguments).asked(filters)
    }

    /// It takes a new record, and answers with it.
    pub(super) fn creates<R: Shown>(self) -> Self {
        let described = Described::of::<R>();
        Self { takes: Takes::Creation(described), gives: Gives::Created(described), ..self }
    }

    /// It takes a patch, and answers with what the record has become.
    pub(super) fn changes<R: Shown>(self) -> Self {
        Self { takes: Takes::Patch, gives: Gives::One(Described::of::<R>()), ..self }
    }

    /// It answers with what it has made.
    pub(super) fn made(self) -> Self {
        Self { gives: Gives::Made, ..self }
    }

    /// It answers with a text of this kind.
    pub(super) fn gives(self, kind: &'static str) -> Self {
        Self { gives: Gives::Text(kind), ..self }
    }

    /// It is volboot's own.
    pub(super) fn own(self) -> Self {
        Self { own: true, ..self }
    }

    /// It answers with nothing, and all is done.
    pub(super) fn done(self) -> Self {
        Self { gives: Gives::Done, ..self }
    }

    /// It answers with nothing, and all is on its way.
    pub(super) fn accepted(self) -> Self {
        Self { gives: Gives::Accepted, ..self }
    }

    /// It takes these arguments in its body.
    pub(super) fn told(self, arguments: &'static [&'static str]) -> Self {
        Self { takes: Takes::Arguments(arguments), ..self }
    }

    /// It takes these arguments behind a `?`.
    pub(super) fn asked(mut self, arguments: &[&'static str]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// It takes another right than others of its method do.
    pub(super) fn right(self, right: Right) -> Self {
        Self { right, ..self }
    }

    /// It came with this version; before, there was no such path.
    pub(super) fn since(self, minor: u16) -> Self {
        Self { since: Version(minor), ..self }
    }
}

impl Described {
    fn of<R: Shown>() -> Self {
        Self { name: called(R::KIND), list: R::LIST, fields: R::FIELDS }
    }
}

/// The router of all routes, with Ironic's answers where there is none.
pub(super) fn router(routes: Vec<Route>) -> Router<Shared> {
    let served = routes.into_iter().fold(Router::new(), |router, route| {
        router.route(route.path, route.serves.layer(from_fn_with_state((route.since, route.right), gate)))
    });
    served.fallback(no_route).method_not_allowed_fallback(no_method)
}

/// A path that came later does not exist yet; and not everybody may do everything.
async fn gate(State((since, right)): State<(Version, Right)>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Facts>() {
        Some(facts) if facts.version >= since && facts.right >= right => next.run(request).await,
        Some(facts) if facts.version >= since => {
            let (method, path) = (request.method(), request.uri().path());
            let text = format!("Access was denied to {method} {path}: it takes the role {}.", right.role());
            Fault::Denied(text).into_response()
        }
        _ => no_route().await,
    }
}

async fn no_route() -> Response {
    Fault::NotFound("The resource could not be found.".into()).into_response()
}

async fn no_method() -> Response {
    Fault::MethodNotAllowed.into_response()
}
