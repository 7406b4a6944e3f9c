//! Fifth stage: is the answer here already? What is not is fetched once for all who wait for it, and kept.
//!
//! [`ask`] is what a request wants of the cache, [`search`] finds it or has it fetched, [`flight`] lets one fetch serve many,
//! [`fetch`] is that fetch, [`slices`] puts large things together, and [`serve`] makes an answer of what is kept. Whether
//! something may be kept or used is decided in `adit_policy::cache`.

mod ask;
mod fetch;
mod flight;
mod search;
mod serve;
mod slices;

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use adit_cache::Store;
use adit_policy::cache::invalidate;
use adit_policy::cache::rule::CacheRule;
use adit_policy::cache::status::{CacheStatus, Outcome};
use adit_tunnel::edge::ResponseBody;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Uri};

use crate::act::Onward;
use crate::forward::Outbound;
use crate::record::Record;
use crate::registry::Session;
use crate::rescue::Problem;
use crate::route::Routed;
use crate::visitor::Visitor;
use ask::{Ask, Target};
use search::{Got, Search};

pub(crate) use flight::Flights;
pub(crate) use serve::{Kept, KeptBody, say};
pub(crate) use slices::Joined;

/// What the cache says to a request.
pub(crate) enum Said {
    /// This is the answer.
    Kept(Box<Kept>),
    /// The origin has answered, and it is not kept.
    Passed(Box<Response<ResponseBody>>, CacheStatus),
    /// It is none of its business.
    Nothing(Option<CacheStatus>),
}

/// A request at the cache.
pub(crate) struct Stage<'a> {
    pub(crate) visitor: &'a Visitor,
    pub(crate) onward: &'a Rc<Onward>,
    /// The request as the origin would get it.
    pub(crate) head: &'a Parts,
    /// Path and query as they were asked for.
    pub(crate) asked: &'a Uri,
    pub(crate) scheme: &'static str,
    pub(crate) identified: bool,
    /// Makes the tunnel's request.
    pub(crate) outbound: &'a dyn Fn(Parts, &Record) -> Outbound,
}

/// The tunnel connection that was asked, for the record.
pub(crate) type Asked = Option<Arc<Session>>;

/// Answers from what is kept, or lets it be fetched.
///
/// # Errors
/// What the fetch has come to, where nothing stands in for it.
pub(crate) async fn answer(stage: &Stage<'_>, record: &mut Record) -> Result<Said, Problem> {
    let Onward(routed) = &**stage.onward;
    let (Some(rule), Some(store)) = (&routed.settings.cache, &stage.visitor.edge.cache) else {
        return Ok(Said::Nothing(None));
    };
    let Some(ask) = Ask::of(stage, rule) else {
        return Ok(Said::Nothing(Some(CacheStatus::of(Outcome::Bypass))));
    };
    let ask = Rc::new(ask);
    let mut search = Search {
        edge: stage.visitor.edge.clone(),
        worker: stage.visitor.worker.clone(),
        onward: stage.onward.clone(),
        ask: ask.clone(),
        store: store.clone(),
        turn: record.turn(),
        head: Box::new(|| (stage.outbound)(ask.request(stage.head), record).head),
        asked: None,
        problem: None,
    };
    let said = find(stage, &mut search, rule).await;
    let (asked, problem) = (search.asked.take(), search.problem.take());
    drop(search);
    asked.iter().for_each(|session| record.asked(session));
    problem.iter().for_each(|problem| record.failed(problem));
    said
}

async fn find(stage: &Stage<'_>, search: &mut Search<'_>, rule: &CacheRule) -> Result<Said, Problem> {
    let ask = search.ask.clone();
    let whole = Target::whole(&ask);
    if let Some(range) = ask.range
        && rule.slice.is_none()
        && !range.is_everything()
        && !search.has(&whole).await
    {
        // Whoever wants a part of something unknown does not wait for the rest.
        let got = search.get(&Target::part(&ask)).await?;
        return Ok(said(stage, &ask, got));
    }
    if let Some(size) = rule.slice
        && !ask.is_personal
        && !search.has(&whole).await
    {
        return slices::answer(stage, search, size).await;
    }
    let got = search.get(&whole).await?;
    Ok(said(stage, &ask, got))
}

fn said(stage: &Stage<'_>, ask: &Ask, got: Got) -> Said {
    match got {
        Got::Object(object, status) => {
            Said::Kept(Box::new(serve::answer(stage.head, ask, &object, status, SystemTime::now())))
        }
        Got::Passed(response, status) => Said::Passed(response, status),
        Got::Nothing(status) => Said::Nothing(Some(status)),
    }
}

/// Forgets what a change has made out of date (RFC 9111, section 4.4).
pub(crate) fn forget(
    store: &Arc<Store>,
    routed: &Routed,
    stage: (&Parts, &Uri, &'static str),
    answer: (StatusCode, &HeaderMap),
) {
    let (head, asked, scheme) = stage;
    let (status, headers) = answer;
    let Some(rule) = routed.settings.cache.as_ref().filter(|_| invalidate::invalidates(&head.method, status))
    else {
        return;
    };
    let named = invalidate::also(routed.host.as_str(), headers);
    let target = asked.path_and_query().map_or("/", |target| target.as_str());
    for target in std::iter::once(target).chain(named.iter().map(String::as_str)) {
        let key = ask::key_of(routed, scheme, target, &head.headers, rule);
        store.remove(&ask::part_key(&key));
        if let Some(size) = rule.slice {
            store.remove(&ask::slice_key(&key, size, 0));
        }
        store.remove(&key);
    }
}

/// Whether a request can change what is stored.
pub(crate) fn may_change(method: &Method, routed: &Routed) -> bool {
    routed.settings.cache.is_some() && !method.is_safe()
}
