//! Runs cases: each by every protocol that it has, through a tunnel of each transport, one at a time in a lane.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use adit_testkit::Way;

use crate::case::{After, Case, Expect, Protocol, Sent, Site, Step, filled};
use crate::client::{Clients, HOSTILE, LEGAL};
use crate::judge::{Observed, judge};
use crate::report::{Outcome, Report};
use crate::scene::{Lane, Scene};

/// Cases that wait for a lane of one transport.
type Queue = Arc<Mutex<VecDeque<(usize, Protocol)>>>;

/// Runs all cases, and reports.
pub(crate) async fn all(scene: Scene, cases: Vec<Case>) -> Report {
    let started = std::time::Instant::now();
    let clients = Arc::new(Clients::of(&scene.edge));
    let cases = Arc::new(cases);
    let all = cases.iter().enumerate();
    let runs: VecDeque<_> = all
        .flat_map(|(index, case)| case.protocols().into_iter().map(move |protocol| (index, protocol)))
        .collect();
    let queues: [(Way, Queue); 2] = Way::ours().map(|way| (way, Arc::new(Mutex::new(runs.clone()))));
    let mut running = tokio::task::JoinSet::new();
    for lane in scene.lanes {
        let queue = queues.iter().find(|(way, _)| *way == lane.way).map(|(_, queue)| queue.clone());
        let queue = queue.unwrap_or_default();
        running.spawn(run_lane(lane, queue, clients.clone(), cases.clone()));
    }
    let outcomes = running.join_all().await.into_iter().flatten().collect();
    Report::new(outcomes, started.elapsed())
}

async fn run_lane(lane: Lane, queue: Queue, clients: Arc<Clients>, cases: Arc<Vec<Case>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((case, protocol)) = next.and_then(|(index, protocol)| Some((cases.get(index)?, protocol)))
        else {
            return outcomes;
        };
        let id = format!("{}x{}", lane.name, outcomes.len());
        let observed = run(&lane, &clients, case, protocol, id).await;
        let problem = judge(case, &observed).err();
        outcomes.push(Outcome::new(case, protocol, lane.way, &observed, problem));
    }
}

async fn run(lane: &Lane, clients: &Clients, case: &Case, protocol: Protocol, id: String) -> Observed {
    let host = lane.host(case.site.label());
    let before = lane.origin.log.len();
    let sent = fill(&case.sent, &host, &id);
    let patience = if case.is_legal() { LEGAL } else { HOSTILE };
    let reply = clients.send(protocol, &host, &sent, patience).await;
    let second = match &case.expect {
        Expect::NotShared(bytes) => {
            let second = Sent::Bytes(filled(bytes, &host, &id), After::Waits);
            Some(clients.send(protocol, &host, &second, LEGAL).await)
        }
        _ => None,
    };
    let next = ask_for_own(lane, clients, &id).await;
    let seen = lane.origin.log.settled(before).await;
    let target = own(&id);
    let seen = seen.into_iter().filter(|entry| entry.message.target != target.as_bytes()).collect();
    Observed { host, id, reply, second, seen, next }
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
fn fill(sent: &Sent, host: &str, id: &str) -> Sent {
    let fill = |bytes: &[u8]| filled(bytes, host, id);
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
