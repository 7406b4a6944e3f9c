//! Runs cases: each by every protocol that it has, through a tunnel of each transport, one at a time in a lane.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use adit_testkit::Way;

use crate::case::{After, Case, Expect, Names, Protocol, Sent, Site, Step, filled};
use crate::client::{Clients, HOSTILE, LEGAL};
use crate::judge::{Observed, judge};
use crate::report::{Outcome, Report};
use crate::scene::{Lane, Scene};

/// Client addresses of a lane, which take turns: an edge sends away who cancels most requests, and most cases are cancelled.
const ADDRESSES: u8 = 16;

/// Cases that wait for a lane of one transport.
type Queue = Arc<Mutex<VecDeque<(usize, Protocol)>>>;

/// Runs all cases, and reports.
pub(crate) async fn all(scene: Scene, cases: Vec<Case>) -> Report {
    let started = std::time::Instant::now();
    let cases = Arc::new(cases);
    let all = cases.iter().enumerate();
    let runs: VecDeque<_> = all
        .flat_map(|(index, case)| case.protocols().into_iter().map(move |protocol| (index, protocol)))
        .collect();
    let queues: [(Way, Queue); 2] = Way::ours().map(|way| (way, Arc::new(Mutex::new(runs.clone()))));
    let mut running = tokio::task::JoinSet::new();
    for (number, lane) in (1..).zip(scene.lanes) {
        let client = |last| Clients::of(&scene.edge, [127, 1, number, last].into());
        let clients: Vec<Clients> = (1..=ADDRESSES).map(client).collect();
        let queue = queues.iter().find(|(way, _)| *way == lane.way).map(|(_, queue)| queue.clone());
        let queue = queue.unwrap_or_default();
        running.spawn(run_lane(lane, queue, clients, cases.clone()));
    }
    let outcomes = running.join_all().await.into_iter().flatten().collect();
    Report::new(outcomes, started.elapsed())
}

/// A case that was run, by which protocol, and what happened.
type Run<'c> = (&'c Case, Protocol, Observed);

async fn run_lane(lane: Lane, queue: Queue, clients: Vec<Clients>, cases: Arc<Vec<Case>>) -> Vec<Outcome> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for clients in clients.iter().cycle() {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((case, protocol)) = next.and_then(|(index, protocol)| Some((cases.get(index)?, protocol)))
        else {
            break;
        };
        let mut observed = run(&lane, clients, case, protocol, id(&lane, runs.len())).await;
        give_back(&mut runs, &mut observed, &lane);
        runs.push((case, protocol, observed));
    }
    let outcome = |(case, protocol, observed): &Run<'_>| {
        Outcome::new(case, *protocol, lane.way, observed, judge(case, observed).err())
    };
    runs.iter().map(outcome).collect()
}

fn id(lane: &Lane, number: usize) -> String {
    format!("{}x{number}", lane.name)
}

/// What a client sent before it left may arrive while the next case runs. It belongs to the run whose number it has.
fn give_back(runs: &mut [Run<'_>], observed: &mut Observed, lane: &Lane) {
    let seen = std::mem::take(&mut observed.seen);
    for entry in seen {
        let earlier = number_in(&entry.raw, lane.name).and_then(|number| runs.get_mut(number));
        earlier.map_or(&mut *observed, |(_, _, earlier)| earlier).seen.push(entry);
    }
}

/// The first number of a run of a lane in bytes.
fn number_in(bytes: &[u8], lane: &str) -> Option<usize> {
    let start = format!("{lane}x");
    let at = bytes.windows(start.len()).position(|window| window == start.as_bytes())? + start.len();
    let digits = bytes.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(bytes.get(at..at + digits)?).ok()?.parse().ok()
}

async fn run(lane: &Lane, clients: &Clients, case: &Case, protocol: Protocol, id: String) -> Observed {
    let host = lane.host(case.site.label());
    let names = Names { host: host.clone(), id: id.clone(), client: clients.address.to_string() };
    let before = lane.origin.log.len();
    let sent = fill(&case.sent, &names);
    let patience = if case.is_legal() { LEGAL } else { HOSTILE };
    let reply = clients.send(protocol, &host, &sent, patience).await;
    let second = match &case.expect {
        Expect::NotShared(bytes) => {
            let second = Sent::Bytes(filled(bytes, &names), After::Waits);
            Some(clients.send(protocol, &host, &second, LEGAL).await)
        }
        _ => None,
    };
    let next = ask_for_own(lane, clients, &id).await;
    let seen = lane.origin.log.settled(before).await;
    let target = own(&id);
    let seen = seen.into_iter().filter(|entry| entry.message.target != target.as_bytes()).collect();
    Observed { names, reply, second, seen, next }
}

fn own(id: &str) -> String {
    format!("/own-{id}")
}

/// A good request on a new connection gets its own answer.
async fn ask_for_own(lane: &Lane, clients: &Clients, id: &str) -> Result<(), String> {
    let host = lane.host(Site::App.label());
    let line = format!("GET {} HTTP/1.1\r\n", own(id));
    let sent = Sent::Bytes(format!("{line}Host: {host}\r\n\r\n").into(), After::Waits);
    let reply = clients.send(Protocol::Plain, &host, &sent, LEGAL).await;
    if reply.status == Some(200) && reply.body.starts_with(line.as_bytes()) {
        return Ok(());
    }
    Err(format!("the next client got {reply}"))
}

/// The bytes of a case with its name and number.
fn fill(sent: &Sent, names: &Names) -> Sent {
    let fill = |bytes: &[u8]| filled(bytes, names);
    let step = |step: &Step| match step {
        Step::Fields(fields) => {
            Step::Fields(fields.iter().map(|(name, value)| (fill(name), fill(value))).collect())
        }
        Step::Data(data) => Step::Data(fill(data)),
        other => other.clone(),
    };
    match sent {
        Sent::Bytes(bytes, after) => Sent::Bytes(fill(bytes), *after),
        Sent::Steps(steps) => Sent::Steps(steps.iter().map(step).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_late_is_told_by_its_number() {
        assert_eq!(number_in(b"GET /admin-q1x42?x HTTP/1.1", "q1"), Some(42));
        assert_eq!(number_in(b"GET /q2x42 HTTP/1.1", "q1"), None);
        assert_eq!(number_in(b"GET / HTTP/1.1\r\nHost: app.q1.example.test", "q1"), None);
    }
}
