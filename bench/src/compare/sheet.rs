//! What the smaller pages share: a head with the machine and the servers, tables with a column for
//! each of them, and a foot with the commands.

use super::chart::escape;
use super::comparison::PeerFacts;
use super::facts::Facts;
use std::fmt::Write;

/// The page up to its first section.
#[must_use]
pub fn head(title: &str, facts: &Facts, peers: &[PeerFacts]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{}</style></head><body><main>\n<h1>{title}</h1>\n\
         <p class=\"soft\">{}, {} cores, {}, {}.</p>\n<ul class=\"legend\">",
        include_str!("page.css"),
        escape(&facts.processor),
        facts.cores,
        escape(&facts.kernel),
        escape(facts.filesystem.split(" (").next().unwrap_or_default()),
        title = escape(title),
    );
    for (number, peer) in peers.iter().enumerate() {
        let _ = write!(
            out,
            "<li class=\"key key{number}\"><i></i><span>{} <span class=\"soft\">{}</span></span></li>",
            escape(&peer.name),
            escape(&peer.version)
        );
    }
    out.push_str("</ul>\n");
    out
}

/// A table with a column for each server.
pub fn table<'a>(
    out: &mut String,
    peers: &[PeerFacts],
    rows: impl Iterator<Item = (&'a str, Vec<String>)>,
) {
    out.push_str("<div class=\"scroll\"><table><thead><tr><th></th>");
    for peer in peers {
        let _ = write!(out, "<th>{}</th>", escape(&peer.name));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (title, values) in rows {
        let _ = write!(out, "<tr><th>{}</th>", escape(title));
        for value in values {
            let _ = write!(out, "<td>{}</td>", escape(&value));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// The commands, and the end of the page.
pub fn foot(out: &mut String, facts: &Facts, peers: &[PeerFacts]) {
    let _ = write!(
        out,
        "<h2>How</h2>\n<dl><dt>Command</dt><dd><code>{}</code></dd>",
        escape(&facts.command)
    );
    for peer in peers {
        let _ = write!(
            out,
            "<dt>{}</dt><dd><code>{}</code></dd>",
            escape(&peer.name),
            escape(&peer.command)
        );
    }
    out.push_str("</dl>\n</main></body></html>\n");
}

/// A line of a table for the terminal.
pub fn line(out: &mut String, title: &str, values: impl Iterator<Item = String>) {
    let _ = write!(out, "{title:<34}");
    for value in values {
        let _ = write!(out, "{value:>16}");
    }
    out.push('\n');
}
