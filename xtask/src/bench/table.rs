//! The table: medians over rounds, with ratios to the floor and to the nearest peer of the same rounds.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::chain::Kind;
use super::live::STREAMS;
use super::load::{Bulk, GIB, Requests};
use super::{Measured, Options, Round};

type Rounds = [(Kind, Vec<Round>)];

/// Everything as Markdown.
pub(crate) fn render(rounds: &Rounds, options: &Options) -> String {
    let mut text = format!(
        "Loopback, {} rounds, {} s per load, medians. TLS visitors on HTTP/1.1; wrk with one thread; origin: nginx.\n",
        options.rounds, options.seconds
    );
    requests(&mut text, rounds, "1 KiB, 64 connections", |round| &round.many);
    requests(&mut text, rounds, "1 KiB, 4 connections", |round| &round.few);
    requests(&mut text, rounds, "64 KiB POST, 16 connections", |round| &round.uploads);
    bulk(&mut text, rounds, "1 MiB, 8 connections", |round| &round.medium);
    bulk(&mut text, rounds, "100 MiB, one after the other", |round| &round.large);
    let ours: Vec<(Kind, Vec<Round>)> =
        rounds.iter().filter(|(kind, _)| kind.has_our_edge()).cloned().collect();
    let events = format!("{STREAMS} event streams, one line a second each (per line)");
    connectors(&mut text, &ours, "gRPC, unary, 64 calls at the same time", |round| &round.grpc);
    connectors(&mut text, &ours, "WebSocket, 64 sockets, 1 KiB there and back", |round| &round.websockets);
    connectors(&mut text, &ours, &events, |round| &round.events);
    memory(&mut text, rounds);
    text
}

/// What a connector costs behind the same edge.
fn connectors(text: &mut String, rounds: &Rounds, title: &str, of: impl Fn(&Round) -> &Measured<Requests>) {
    let head = "| chain | per second | CPU µs | by process | p50 ms | p99 ms | failed |\n|---|---|---|---|---|---|---|";
    put(text, format_args!("\n## {title}\n\n{head}\n"));
    for (kind, done) in rounds {
        let middle =
            |value: &dyn Fn(&Measured<Requests>) -> f64| median(done.iter().map(|round| value(of(round))));
        let failed: u64 = done.iter().map(|round| of(round).outcome.failed).sum();
        let (letter, name) = (kind.letter(), kind.name());
        if done.iter().all(|round| of(round).cpu.is_empty()) {
            put(text, format_args!("| ({letter}) {name} | – | – | – | – | – | – |\n"));
            continue;
        }
        put(
            text,
            format_args!(
                "| ({letter}) {name} | {:.0} | {:.1} | {} | {:.2} | {:.2} | {failed} |\n",
                middle(&|m| m.outcome.per_second),
                middle(&per_request),
                by_process(done, &of),
                middle(&|m| m.outcome.p50),
                middle(&|m| m.outcome.p99),
            ),
        );
    }
}

fn requests(text: &mut String, rounds: &Rounds, title: &str, of: impl Fn(&Round) -> &Measured<Requests>) {
    put(
        text,
        format_args!(
            "\n## {title}\n\n| chain | requests/s | CPU µs/request | by process | × (a) | × (b) | p50 ms | p99 ms | failed |\n|---|---|---|---|---|---|---|---|---|\n"
        ),
    );
    let cost = |round: &Round| per_request(of(round));
    for (kind, done) in rounds {
        let middle =
            |value: &dyn Fn(&Measured<Requests>) -> f64| median(done.iter().map(|round| value(of(round))));
        let failed: u64 = done.iter().map(|round| of(round).outcome.failed).sum();
        put(
            text,
            format_args!(
                "| ({}) {} | {:.0} | {:.1} | {} | {} | {} | {:.2} | {:.2} | {failed} |\n",
                kind.letter(),
                kind.name(),
                middle(&|m| m.outcome.per_second),
                middle(&per_request),
                by_process(done, &of),
                ratio(rounds, Kind::Floor, done, &cost),
                ratio(rounds, Kind::RatholeTls, done, &cost),
                middle(&|m| m.outcome.p50),
                middle(&|m| m.outcome.p99),
            ),
        );
    }
}

fn bulk(text: &mut String, rounds: &Rounds, title: &str, of: impl Fn(&Round) -> &Measured<Bulk>) {
    put(
        text,
        format_args!(
            "\n## {title}\n\n| chain | MiB/s | CPU-s/GiB | × (a) | × (b) |\n|---|---|---|---|---|\n"
        ),
    );
    let cost = |round: &Round| per_gib(of(round));
    for (kind, done) in rounds {
        put(
            text,
            format_args!(
                "| ({}) {} | {:.0} | {:.2} | {} | {} |\n",
                kind.letter(),
                kind.name(),
                median(done.iter().map(|round| of(round).outcome.speed)),
                median(done.iter().map(&cost)),
                ratio(rounds, Kind::Floor, done, &cost),
                ratio(rounds, Kind::RatholeTls, done, &cost),
            ),
        );
    }
}

fn memory(text: &mut String, rounds: &Rounds) {
    put(
        text,
        format_args!(
            "\n## Memory (PSS, MiB)\n\n| chain | idle | after the small requests |\n|---|---|---|\n"
        ),
    );
    for (kind, done) in rounds {
        let Some(last) = done.last() else { continue };
        let list = |sizes: &[(String, u64)]| {
            sizes.iter().map(|(name, kib)| format!("{name} {:.1}", mib(*kib))).collect::<Vec<_>>().join(", ")
        };
        put(
            text,
            format_args!(
                "| ({}) {} | {} | {} |\n",
                kind.letter(),
                kind.name(),
                list(&last.idle),
                list(&last.loaded)
            ),
        );
    }
}

/// How memory went while requests were sent.
pub(crate) fn soak(kind: Kind, steps: &[(u64, Vec<(String, u64)>)]) -> String {
    let mut text = format!("{}:\n\n| requests | memory |\n|---|---|\n", kind.name());
    for (sent, memory) in steps {
        let sizes = memory
            .iter()
            .map(|(name, kib)| format!("{name} {:.1}", mib(*kib)))
            .collect::<Vec<_>>()
            .join(", ");
        put(&mut text, format_args!("| {sent} | {sizes} |\n"));
    }
    text.push('\n');
    text
}

/// Replaces what stands after the marker in the file.
pub(crate) fn write(path: &Path, table: &str) -> Result<()> {
    const MARKER: &str = "<!-- table -->";
    let text = fs::read_to_string(path)?;
    let head = text.split(MARKER).next().unwrap_or_default();
    let date = time::OffsetDateTime::now_utc().date();
    fs::write(path, format!("{head}{MARKER}\n\nMeasured {date}.\n\n{table}"))?;
    Ok(())
}

fn per_request(measured: &Measured<Requests>) -> f64 {
    total(&measured.cpu) / 1000.0 / measured.outcome.count.max(1) as f64
}

fn per_gib(measured: &Measured<Bulk>) -> f64 {
    total(&measured.cpu) / 1e9 / (measured.outcome.bytes / GIB)
}

fn total(cpu: &[(String, u64)]) -> f64 {
    cpu.iter().map(|(_, nanoseconds)| *nanoseconds as f64).sum()
}

fn by_process(done: &[Round], of: &impl Fn(&Round) -> &Measured<Requests>) -> String {
    let Some(first) = done.first() else { return String::new() };
    let names = of(first).cpu.iter().enumerate();
    let one = |(at, (name, _)): (usize, &(String, u64))| {
        let cost = |round: &Round| {
            let measured = of(round);
            measured
                .cpu
                .get(at)
                .map_or(0.0, |(_, ns)| *ns as f64 / 1000.0 / measured.outcome.count.max(1) as f64)
        };
        format!("{name} {:.1}", median(done.iter().map(cost)))
    };
    names.map(one).collect::<Vec<_>>().join(", ")
}

/// The median over rounds of the quotient within a round.
fn ratio(rounds: &Rounds, to: Kind, done: &[Round], cost: &impl Fn(&Round) -> f64) -> String {
    let Some((_, base)) = rounds.iter().find(|(kind, _)| *kind == to) else { return "–".to_owned() };
    format!("{:.2}", median(done.iter().zip(base).map(|(one, other)| cost(one) / cost(other))))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _done = text.write_fmt(what);
}
