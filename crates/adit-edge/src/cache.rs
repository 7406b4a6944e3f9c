//! Fifth stage: is the answer here already? What is not is fetched once for all who wait for it, and kept.
//!
//! [`ask`] is what a request wants of the cache, [`search`] finds it or has it fetched, [`flight`] lets one fetch serve many,
//! [`fetch`] is that fetch, [`slices`] puts large things together, and [`serve`] makes an answer of what is kept. Whether
//! something may be kept or used is decided in `adit_policy::cache`.

mod ask;
mod fetch;
mod flight;
mod gated;
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
use http::{HeaderMap, Method, Response, StatusCode};

use crate::act::Onward;
use crate::forward;
use crate::record::Record;
use crate::registry::Session;
use crate::rescue::Problem;
use ask::{Ask, Target};
use search::{Got, Search};

pub(crate) use flight::Flights;
pub(crate) use gated::Gated;
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

/// The tunnel connection that was asked, for the record.
pub(crate) type Asked = Option<Arc<Session>>;

/// Answers from what is kept, or lets it be fetched. `head` is the request as the origin would get it.
///
/// # Errors
/// What the fetch has come to, where nothing stands in for it.
pub(crate) async fn answer(onward: &Rc<Onward>, head: &Parts, record: &mut Record) -> Result<Said, Problem> {
    let (Some(rule), Some(store)) = (&onward.settings().cache, &onward.request().edge().cache) else {
        return Ok(Said::Nothing(None));
    };
    let Some(ask) = Ask::of(onward, head, rule) else {
        return Ok(Said::Nothing(Some(CacheStatus::of(Outcome::Bypass))));
    };
    let ask = Rc::new(ask);
    let mut search = Search {
        onward: onward.clone(),
        ask: ask.clone(),
        store: store.clone(),
        head: Box::new(|| forward::head(onward, ask.request(head))),
        asked: None,
        problem: None,
    };
    let said = find(head, &mut search, rule).await;
    let (asked, problem) = (search.asked.take(), search.problem.take());
    drop(search);
    asked.iter().for_each(|session| record.asked(session));
    problem.iter().for_each(|problem| record.failed(problem));
    said
}

async fn find(head: &Parts, search: &mut Search<'_>, rule: &CacheRule) -> Result<Said, Problem> {
    let ask = search.ask.clone();
    let whole = Target::whole(&ask);
    if let Some(range) = ask.range
        && rule.slice.is_none()
        && !range.is_everything()
        && !search.has(&whole).await
    {
        // Whoever wants a part of something unknown does not wait for the rest.
        let got = search.get(&Target::part(&ask)).await?;
        return Ok(said(head, &ask, got));
    }
    if let Some(size) = rule.slice
        && !ask.is_personal
        && !search.has(&whole).await
    {
        return slices::answer(head, search, size).await;
    }
    let got = search.get(&whole).await?;
    Ok(said(head, &ask, got))
}

fn said(head: &Parts, ask: &Ask, got: Got) -> Said {
    match got {
        Got::Object(object, status) => {
            Said::Kept(Box::new(serve::answer(head, ask, &object, status, SystemTime::now())))
        }
        Got::Passed(response, status) => Said::Passed(response, status),
        Got::Nothing(status) => Said::Nothing(Some(status)),
    }
}

/// Forgets what a change has made out of date (RFC 9111, section 4.4).
pub(crate) fn forget(store: &Arc<Store>, onward: &Onward, head: &Parts, answer: (StatusCode, &HeaderMap)) {
    let (status, headers) = answer;
    let Some(rule) =
        onward.settings().cache.as_ref().filter(|_| invalidate::invalidates(&head.method, status))
    else {
        return;
    };
    let named = invalidate::also(onward.host().as_str(), headers);
    let target = onward.request().path_and_query();
    for target in std::iter::once(target).chain(named.iter().map(String::as_str)) {
        let Some(key) = ask::key_of(onward, target, &head.headers, rule) else { continue };
        store.remove(&ask::part_key(&key));
        if let Some(size) = rule.slice {
            store.remove(&ask::slice_key(&key, size, 0));
        }
        store.remove(&key);
    }
}

/// Whether a request can change what is stored.
pub(crate) fn may_change(method: &Method, onward: &Onward) -> bool {
    onward.settings().cache.is_some() && !method.is_safe()
}
