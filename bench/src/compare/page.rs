//! The report: one HTML page that needs nothing else, in light and dark, on paper and phone.

use super::chart::{self, BarGroup, Curve, escape, ratio_text};
use super::comparison::{self, Comparison, Metric, PeerFacts, Run};
use super::statistics::Spread;
use crate::result::summary::grouped;
use std::fmt::Write;
use time::OffsetDateTime;
use time::macros::format_description;

/// With fewer rounds two ranges may lie apart by chance: nothing is called better or worse.
const ROUNDS_TO_JUDGE: usize = 3;

/// Up to here the rest of the machine counts as quiet.
const OTHER_CORES_MAX: f64 = 0.25;

const STYLE: &str = include_str!("page.css");

/// The whole page.
#[must_use]
pub fn page(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison.peers.iter().map(|peer| peer.name.as_str()).collect();
    let title = match comparison.members {
        1 => format!("{}, side by side", names.join(" and ")),
        members => format!("{}, clusters of {members}, side by side", names.join(" and ")),
    };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{0}</title><style>{STYLE}</style></head><body><main>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    introduction(&mut out, comparison);
    short(&mut out, comparison);
    idle(&mut out, comparison, &names);
    for workload in comparison.workloads() {
        workload_section(&mut out, comparison, workload, &names);
    }
    numbers(&mut out, comparison);
    method(&mut out, comparison);
    out.push_str("</main></body></html>\n");
    out
}

fn introduction(out: &mut String, comparison: &Comparison) {
    let facts = &comparison.facts;
    let _ = write!(
        out,
        "<p class=\"soft\">{}. {}, {} cores, {}, {}.</p>\n<ul class=\"legend\">",
        date(comparison.began_unix_seconds),
        escape(&facts.processor),
        facts.cores,
        escape(&facts.kernel),
        escape(facts.filesystem.split(" (").next().unwrap_or_default()),
    );
    for (number, peer) in comparison.peers.iter().enumerate() {
        let _ = write!(
            out,
            "<li class=\"key key{number}\"><i></i><span>{} <span class=\"soft\">{}</span></span></li>",
            escape(&peer.name),
            escape(&peer.version)
        );
    }
    out.push_str("</ul>\n");
    warnings(out, comparison);
}

/// What makes the numbers doubtful, before anybody reads them.
fn warnings(out: &mut String, comparison: &Comparison) {
    let others = Spread::of(comparison.runs.iter().map(|run| run.other_cores));
    if let Some(others) = others.filter(|others| others.max > OTHER_CORES_MAX) {
        let _ = write!(
            out,
            "<p class=\"alarm\">Other processes kept {:.1} cores busy during these runs (median; \
             up to {:.1}). Throughput and latency suffer from that, and not evenly; processor time \
             per operation suffers least.</p>",
            others.median, others.max
        );
    }
    let errors = comparison.error_count();
    if errors > 0 {
        let _ = write!(
            out,
            "<p class=\"alarm\">{} requests failed: the numbers of these runs are not comparable. \
             The table below says which.</p>",
            grouped(errors as f64, 0)
        );
    }
}

fn date(unix_seconds: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|at| at.format(&format).ok())
        .unwrap_or_default()
}

/// Ratios to the first peer, for those who read one table only.
fn short(out: &mut String, comparison: &Comparison) {
    let Some((base, others)) = comparison.peers.split_first() else { return };
    for peer in others {
        let _ = write!(
            out,
            "<h2>In short</h2>\n<p class=\"soft\">{} as a multiple of {}: medians of {} rounds. \
             Green is better, red is worse, {}.</p>\n<div class=\"scroll\"><table><thead><tr>\
             <th>Load</th>",
            escape(&peer.name),
            escape(&base.name),
            comparison.rounds,
            match comparison.rounds < ROUNDS_TO_JUDGE {
                true => "but so few rounds do not tell a difference from noise, so all stays grey",
                false => "grey means that the rounds overlap and do not tell the two apart",
            }
        );
        for metric in comparison::SHORT {
            let _ = write!(out, "<th>{}</th>", metric.title);
        }
        out.push_str("</tr></thead><tbody>\n");
        for workload in comparison.workloads() {
            for clients in comparison.clients(workload) {
                let _ = write!(out, "<tr><th>{}</th>", escape(&load_label(workload, clients)));
                for metric in comparison::SHORT {
                    let read =
                        |of: &PeerFacts| comparison.spread(metric, &of.name, workload, clients);
                    let _ = write!(
                        out,
                        "<td>{}</td>",
                        verdict(metric, read(peer), read(base), comparison.rounds)
                    );
                }
                out.push_str("</tr>\n");
            }
        }
        out.push_str("</tbody></table></div>\n");
    }
}

fn load_label(workload: &str, clients: usize) -> String {
    format!("{workload}, {}", clients_label(clients))
}

fn clients_label(clients: usize) -> String {
    match clients {
        1 => "1 client".to_owned(),
        _ => format!("{} clients", grouped(clients as f64, 0)),
    }
}

/// A ratio in the colour of what it means.
fn verdict(metric: &Metric, value: Option<Spread>, base: Option<Spread>, rounds: usize) -> String {
    let Some((value, base)) = value.zip(base) else { return "–".to_owned() };
    let Some(ratio) = value.ratio(&base) else { return "–".to_owned() };
    let unclear = rounds < ROUNDS_TO_JUDGE || value.overlaps(&base);
    let class = match (unclear, (ratio > 1.0) == metric.more_is_better) {
        (true, _) => "even",
        (false, true) => "good",
        (false, false) => "bad",
    };
    format!("<span class=\"{class}\">{}</span>", ratio_text(ratio))
}

fn idle(out: &mut String, comparison: &Comparison, names: &[&str]) {
    out.push_str(
        "<h2>Starting and idling</h2>\n<p class=\"soft\">On an empty data directory, over all \
         runs: from the start of the process to the first answered linearizable read, then a \
         moment without any request.</p>\n<div class=\"grid-cards\">",
    );
    for metric in comparison::IDLE {
        let values = names.iter().map(|name| comparison.spread_of_all(metric, name)).collect();
        bar_card(out, metric, names, &[BarGroup { label: String::new(), values }]);
    }
    out.push_str("</div>\n");
}

fn workload_section(out: &mut String, comparison: &Comparison, workload: &str, names: &[&str]) {
    let _ = write!(
        out,
        "<h2>{}</h2>\n<p class=\"soft\">{}</p>\n<div class=\"grid-cards\">",
        escape(workload),
        escape(&describe(comparison, workload))
    );
    let counts = comparison.clients(workload);
    for clients in &counts {
        let title = format!("Latency, {}", clients_label(*clients));
        let curves: Vec<Curve<'_>> = names
            .iter()
            .map(|name| Curve { name, points: comparison.curve(name, workload, *clients) })
            .collect();
        let _ = write!(
            out,
            "<div class=\"card\"><h3>{title}</h3><p>lower is better</p>{}</div>",
            chart::curves(&title, &curves)
        );
    }
    out.push_str("</div>\n<div class=\"grid-cards wide\">");
    for metric in comparison::BARS {
        let groups: Vec<BarGroup> = counts
            .iter()
            .map(|clients| BarGroup {
                label: clients_label(*clients),
                values: names
                    .iter()
                    .map(|name| comparison.spread(metric, name, workload, *clients))
                    .collect(),
            })
            .collect();
        bar_card(out, metric, names, &groups);
    }
    out.push_str("</div>\n");
}

fn bar_card(out: &mut String, metric: &Metric, names: &[&str], groups: &[BarGroup]) {
    let better = if metric.more_is_better { "more is better" } else { "less is better" };
    let _ = write!(
        out,
        "<div class=\"card\"><h3>{}</h3><p>{better}</p>{}</div>",
        metric.title,
        chart::bars(metric.title, metric.unit, names, groups)
    );
}

fn describe(comparison: &Comparison, workload: &str) -> String {
    let Some(run) = comparison.runs.iter().find(|run| run.workload == workload) else {
        return String::new();
    };
    let asked = &run.figures.asked;
    let what = match workload {
        "put" => "Puts of random keys",
        "txn-put" => {
            "Optimistic updates of random keys: write if the revision is still the known one, else read and repeat"
        }
        "lease-flood" => {
            "Node heartbeats as Kubernetes writes them: optimistic updates of Lease objects, each client its own nodes"
        }
        "list" => "Lists of all keys of a prefix",
        "range" => "Reads of random keys",
        "watch" => "From the put of a key to the arrival of its event at a watcher",
        _ => "",
    };
    let pace = match asked.rate {
        Some(rate) => format!(
            "{} requests a second offered, latency from the intended time of each",
            grouped(rate, 0)
        ),
        None => "each client sends its next request when the last is answered".to_owned(),
    };
    format!(
        "{what}; {} keys, values of {} bytes; {pace}; {} s measured after {} s of warm-up.",
        grouped(asked.key_space as f64, 0),
        asked.value_size_bytes,
        run.figures.window_seconds.round(),
        asked.warm_up_seconds
    )
}

fn numbers(out: &mut String, comparison: &Comparison) {
    let _ = writeln!(
        out,
        "<h2>All numbers</h2>\n<p class=\"soft\">Median of {} rounds, smallest and largest below \
         it. First what clients saw, then what it took.</p>",
        comparison.rounds
    );
    number_table(out, comparison, &comparison::SEEN, true);
    number_table(out, comparison, &comparison::SPENT, false);
}

fn number_table(out: &mut String, comparison: &Comparison, metrics: &[&Metric], errors: bool) {
    out.push_str("<div class=\"scroll\"><table><thead><tr><th>Server and load</th>");
    for metric in metrics {
        let _ = write!(out, "<th>{}</th>", metric.title);
    }
    out.push_str(if errors { "<th>Errors</th>" } else { "" });
    out.push_str("</tr></thead><tbody>\n");
    for workload in comparison.workloads() {
        for clients in comparison.clients(workload) {
            for (number, peer) in comparison.peers.iter().enumerate() {
                let class = if number == 0 { " class=\"group\"" } else { "" };
                let _ = write!(
                    out,
                    "<tr{class}><th class=\"key key{number}\"><i></i>{}<small>{}</small></th>",
                    escape(&peer.name),
                    escape(&load_label(workload, clients))
                );
                for metric in metrics {
                    spread_cell(
                        out,
                        metric,
                        comparison.spread(metric, &peer.name, workload, clients),
                    );
                }
                if errors {
                    error_cell(out, comparison.cell(&peer.name, workload, clients));
                }
                out.push_str("</tr>\n");
            }
        }
    }
    out.push_str("</tbody></table></div>\n");
}

fn spread_cell(out: &mut String, metric: &Metric, spread: Option<Spread>) {
    let _ = match spread {
        Some(spread) => write!(
            out,
            "<td>{}<small>{} – {}</small></td>",
            metric.unit.format(spread.median),
            metric.unit.format(spread.min),
            metric.unit.format(spread.max)
        ),
        None => write!(out, "<td>–</td>"),
    };
}

fn error_cell<'a>(out: &mut String, runs: impl Iterator<Item = &'a Run>) {
    let errors: u64 = runs.map(|run| run.figures.error_count()).sum();
    let class = if errors > 0 { " class=\"bad\"" } else { "" };
    let _ = write!(out, "<td{class}>{}</td>", grouped(errors as f64, 0));
}

fn method(out: &mut String, comparison: &Comparison) {
    let facts = &comparison.facts;
    out.push_str(
        "<h2>How this was measured</h2>\n<p>Every run starts a fresh server on an empty data \
         directory on the same disk, one server at a time, and the servers take turns. Loader and \
         server share the machine. Processor time is user and system time of all the server's \
         threads within the measuring window; bytes written are those that the kernel accounts to \
         the server. Bands and whiskers span the rounds.</p>\n",
    );
    if comparison.members > 1 {
        let _ = writeln!(
            out,
            "<p>A server is a cluster of {} members on this machine, all on the same disk. What it \
             spends (processor time, memory, bytes written) is the sum over its members. The \
             clients’ connections are spread over the members, the first one goes to the leader: a \
             single client asks the leader, most of many ask a follower.</p>",
            comparison.members
        );
    }
    out.push_str("<dl>");
    let mut row = |name: &str, value: &str| {
        let _ = write!(out, "<dt>{name}</dt><dd>{value}</dd>");
    };
    row("Processor", &format!("{}, {} cores", escape(&facts.processor), facts.cores));
    row("Memory", &comparison::Unit::Bytes.format(facts.memory_bytes as f64));
    row("Kernel", &escape(&facts.kernel));
    row("File system", &escape(&facts.filesystem));
    for peer in &comparison.peers {
        let value = format!("{}<br><code>{}</code>", escape(&peer.version), escape(&peer.command));
        row(&escape(&peer.name), &value);
    }
    row("Measured with", &format!("mainstay-bench {}", escape(&facts.tool_version)));
    row("Command", &format!("<code>{}</code>", escape(&facts.command)));
    out.push_str("</dl>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::comparison::tests::example;

    #[test]
    fn the_page_is_whole_and_needs_nothing_else() {
        let page = page(&example());
        for part in ["<!doctype html>", "</html>", "prefers-color-scheme", "viewport", "In short"] {
            assert!(page.contains(part), "{part}");
        }
        for foreign in ["http://", "https://", "<script", "<link", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(
            page.contains("new &lt;&amp;&gt;") && !page.contains("new <&>"),
            "names are escaped"
        );
        assert!(page.contains("A &amp; B, 0 cores"));
        for (open, close) in
            [("<div", "</div>"), ("<svg", "</svg>"), ("<tr", "</tr>"), ("<td", "</td>")]
        {
            assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
        }
        // 3 idle bars; per workload 2 curves and 4 bar charts.
        assert_eq!(page.matches("<svg").count(), 9);
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn clusters_are_told_from_single_servers() {
        let mut example = example();
        assert!(!page(&example).contains("cluster"));
        example.members = 3;
        let page = page(&example);
        assert!(
            page.contains("clusters of 3, side by side") && page.contains("sum over its members")
        );
    }

    #[test]
    fn errors_cannot_be_overlooked() {
        let mut example = example();
        assert!(!page(&example).contains("requests failed"));
        example.runs[0].figures.errors.insert("no answer".to_owned(), 1234);
        let page = page(&example);
        assert!(page.contains("1,234 requests failed") && page.contains("<td class=\"bad\">1,234"));
    }

    #[test]
    fn a_busy_machine_is_told_first() {
        let mut example = example();
        assert!(!page(&example).contains("Other processes"));
        example.runs[3].other_cores = 1.26;
        assert!(
            page(&example).contains(
                "Other processes kept 0.1 cores busy during these runs (median; up to 1.3)"
            )
        );
    }

    #[test]
    fn verdicts_follow_the_direction_and_admit_noise() {
        let spread = |min, median, max| Some(Spread { min, median, max });
        let base = spread(9.0, 10.0, 11.0);
        for (metric, value, expected) in [
            (
                &comparison::THROUGHPUT,
                spread(19.0, 20.0, 21.0),
                "<span class=\"good\">2.00×</span>",
            ),
            (&comparison::THROUGHPUT, spread(4.0, 5.0, 6.0), "<span class=\"bad\">0.50×</span>"),
            (&comparison::CPU, spread(4.0, 5.0, 6.0), "<span class=\"good\">0.50×</span>"),
            (&comparison::CPU, spread(19.0, 20.0, 21.0), "<span class=\"bad\">2.00×</span>"),
            (&comparison::CPU, spread(10.5, 12.0, 13.0), "<span class=\"even\">1.20×</span>"),
            (&comparison::CPU, None, "–"),
        ] {
            assert_eq!(verdict(metric, value, base, 3), expected);
        }
        let twice = verdict(&comparison::THROUGHPUT, spread(19.0, 20.0, 21.0), base, 2);
        assert_eq!(twice, "<span class=\"even\">2.00×</span>", "two rounds judge nothing");
    }

    #[test]
    fn one_peer_alone_makes_a_page_without_ratios() {
        let mut example = example();
        example.peers.truncate(1);
        example.runs.retain(|run| run.peer == "old");
        let page = page(&example);
        assert!(!page.contains("In short") && page.contains("All numbers"));
    }
}
