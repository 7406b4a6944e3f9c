//! The report: a line for each corpus, and every failing case with what was sent and what the origin saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use adit_testkit::Way;

use crate::case::{Case, Protocol, Sent, Step};
use crate::judge::Observed;

/// Bytes of a message that are shown.
const SHOWN: usize = 1200;

/// How one run of a case went.
#[derive(Debug)]
pub(crate) struct Outcome {
    corpus: &'static str,
    name: String,
    is_legal: bool,
    way: String,
    problem: Option<Problem>,
}

#[derive(Debug)]
struct Problem {
    why: String,
    sent: String,
    seen: String,
    reply: String,
}

impl Outcome {
    /// How a run went; the bytes are kept where it failed.
    pub(crate) fn new(
        case: &Case,
        protocol: Protocol,
        way: Way,
        observed: &Observed,
        problem: Option<String>,
    ) -> Self {
        let seen = |observed: &Observed| -> String {
            let entries = observed.seen.iter();
            entries
                .map(|entry| format!("\n      #{} {:?} {}", entry.connection, entry.state, shown(&entry.raw)))
                .collect()
        };
        let problem = problem.map(|why| Problem {
            why,
            sent: sent(&case.sent),
            seen: seen(observed),
            reply: observed.reply.to_string(),
        });
        Self {
            corpus: case.corpus,
            name: case.name.clone(),
            is_legal: case.is_legal(),
            way: format!("{protocol:?} over {}", way.protocol()),
            problem,
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    let end = bytes.len().min(SHOWN);
    format!(
        "`{}`{}",
        bytes.get(..end).unwrap_or_default().escape_ascii(),
        if end < bytes.len() { "…" } else { "" }
    )
}

fn sent(sent: &Sent) -> String {
    let step = |step: &Step| match step {
        Step::Fields(fields) => {
            let fields = fields.iter().map(|(name, value)| [&name[..], b"=", value].concat());
            format!("fields {}", fields.map(|field| shown(&field)).collect::<Vec<_>>().join(" "))
        }
        Step::Data(data) => format!("data {}", shown(data)),
        other => format!("{other:?}"),
    };
    match sent {
        Sent::Bytes(bytes, after) => format!("{} {after:?}", shown(bytes)),
        Sent::Steps(steps) => steps.iter().map(step).collect::<Vec<_>>().join("; "),
    }
}

/// Everything that was run.
#[derive(Debug)]
pub(crate) struct Report {
    outcomes: Vec<Outcome>,
    took: Duration,
}

/// What a line of the table counts.
#[derive(Debug, Default)]
struct Row {
    hostile: usize,
    safe: usize,
    legal: usize,
    passed: usize,
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        let good = usize::from(outcome.problem.is_none());
        let (all, held) = if outcome.is_legal {
            (&mut self.legal, &mut self.passed)
        } else {
            (&mut self.hostile, &mut self.safe)
        };
        *all += 1;
        *held += good;
    }
}

impl Report {
    pub(crate) fn new(outcomes: Vec<Outcome>, took: Duration) -> Self {
        Self { outcomes, took }
    }

    /// Whether something was run, and nothing failed.
    pub(crate) fn is_good(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|outcome| outcome.problem.is_none())
    }

    /// Named cases, whatever number of ways each was sent by.
    fn cases(&self, legal: bool) -> usize {
        let chosen = self.outcomes.iter().filter(|outcome| outcome.is_legal == legal);
        let mut names: Vec<_> = chosen.map(|outcome| (outcome.corpus, &outcome.name)).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut failed: Vec<&Outcome> =
            self.outcomes.iter().filter(|outcome| outcome.problem.is_some()).collect();
        failed.sort_by_key(|outcome| (outcome.corpus, &outcome.name, &outcome.way));
        for outcome in failed {
            let Some(problem) = &outcome.problem else { continue };
            let Problem { why, sent, seen, reply } = problem;
            writeln!(f, "FAILED {}: {} ({})\n  why  {why}", outcome.corpus, outcome.name, outcome.way)?;
            writeln!(
                f,
                "  sent {sent}\n  got  {reply}\n  seen {}",
                if seen.is_empty() { "nothing" } else { seen }
            )?;
        }
        let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
        let mut total = Row::default();
        for outcome in &self.outcomes {
            rows.entry(outcome.corpus).or_default().add(outcome);
            total.add(outcome);
        }
        writeln!(f, "| corpus | hostile | safe | legal | passed |\n|---|---|---|---|---|")?;
        let all = rows.iter().map(|(corpus, row)| (*corpus, row));
        for (corpus, Row { hostile, safe, legal, passed }) in all.chain([("all", &total)]) {
            writeln!(f, "| {corpus} | {hostile} | {safe} | {legal} | {passed} |")?;
        }
        let (hostile, legal) = (self.cases(false), self.cases(true));
        let took = self.took.as_secs();
        write!(
            f,
            "{hostile} hostile and {legal} legal cases, each by every protocol and tunnel transport, in {took} s"
        )
    }
}
