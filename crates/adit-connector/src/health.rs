//! Checks of rules with several origins. They run on one worker, and all workers see what they find.

use std::sync::Arc;

use adit_policy::ingress::{HealthCheck, OriginRequest, Service};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Connector;
use crate::balance::Member;
use crate::origin::{self, Origin};
use crate::rescue::chain;

/// Checks the origins of the rules in force, for ever.
pub(crate) async fn watch(connector: Arc<Connector>) {
    let mut changed = connector.changed();
    loop {
        changed.mark_unchanged();
        // They end when they are dropped.
        let _checks = start(&connector);
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn start(connector: &Arc<Connector>) -> JoinSet<()> {
    let in_force = connector.rules.load();
    let mut checks = JoinSet::new();
    for (index, rule) in in_force.ingress.rules.iter().enumerate() {
        let (Some(spread), Some(check)) = (in_force.spread(index), &rule.origin.health_check) else {
            continue;
        };
        for (member, service) in spread.members.iter().zip(rule.services()) {
            let run =
                run(connector.clone(), member.clone(), service.clone(), rule.origin.clone(), check.clone());
            checks.spawn_local(run);
        }
    }
    checks
}

async fn run(
    connector: Arc<Connector>,
    member: Arc<Member>,
    service: Service,
    settings: OriginRequest,
    check: HealthCheck,
) {
    let origin = Origin::new(&service, &settings);
    // The first check is at once.
    let mut beat = interval(check.interval);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let cause = failure(&origin, &check).await;
        if member.checked(cause.is_none(), &check) {
            match &cause {
                Some(cause) => tracing::warn!(origin = member.name, cause, "origin is down"),
                None => tracing::info!(origin = member.name, "origin is up again"),
            }
        }
        connector.metrics.origin_up(&member.name, member.is_up());
    }
}

/// Why a check failed; `None` when it is good.
async fn failure(origin: &Origin, check: &HealthCheck) -> Option<String> {
    match timeout(check.timeout, origin::check(origin, check.path.as_deref())).await {
        Ok(Ok(status)) if status < 400 => None,
        Ok(Ok(status)) => Some(format!("the answer is {status}")),
        Ok(Err(error)) => Some(chain(&error)),
        Err(_) => Some(format!("no answer within {:?}", check.timeout)),
    }
}
