//! The table with the aims beside it, and the same as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::aims::{Aim, Bound};
use super::options::Options;
use super::run::{Cell, Row};
use super::servers::Server;
use crate::harness::table::{align, number, small};

/// The table: a line per figure, a column per server, ratios to its floor in brackets; then what was aimed at.
#[must_use]
pub fn table(rows: &[Row], options: &Options) -> String {
    let servers = &options.servers;
    let mut lines = vec![header(servers)];
    for row in rows {
        lines.extend((0..row.case.figures.len()).map(|figure| line(row, figure, servers)));
    }
    let mut text = align(&lines);
    let _ = writeln!(
        text,
        "\nMedian of {} rounds of {:?}; in brackets the median ratio to the floor that waits alike, in the same round.",
        options.rounds, options.budget
    );
    let _ = writeln!(text, "~ rounds differ by more than a factor of two. {}", options.placement.describe());
    for row in rows {
        for (server, cell) in servers.iter().zip(&row.cells) {
            if let Cell::Failed(why) = cell {
                let _ = writeln!(text, "FAILED {}, {}: {why}", server.spec.name, row.title());
            }
        }
    }
    text.push_str(&verdict(rows, servers));
    text
}

/// Everything, round by round.
#[must_use]
pub fn json(rows: &[Row], options: &Options) -> Value {
    let servers = &options.servers;
    let figures: Vec<Value> = rows.iter().flat_map(|row| row_json(row, servers)).collect();
    json!({
        "rounds": options.rounds,
        "seconds": options.budget.as_secs_f64(),
        "placement": format!("{:?}", options.placement).to_lowercase(),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "servers": servers.iter().map(|server| &server.spec.name).collect::<Vec<_>>(),
        "figures": figures,
    })
}

impl Row {
    /// What the table calls it.
    fn title(&self) -> String {
        format!("{}, {} client", self.case.title, self.kind.name())
    }
}

fn row_json(row: &Row, servers: &[Server]) -> Vec<Value> {
    let mut values = Vec::new();
    for (index, (server, cell)) in servers.iter().zip(&row.cells).enumerate() {
        let head = json!({"test": row.case.name, "client": row.kind.name(), "server": server.spec.name});
        let with = |name: &str, what: Value| {
            let mut value = head.clone();
            value[name] = what;
            value
        };
        match cell {
            Cell::Measured { rounds, .. } => {
                for (figure, described) in row.case.figures.iter().enumerate() {
                    let mut value = with("figure", json!(described.name));
                    value["unit"] = json!(described.unit);
                    value["median"] = json!(cell.median(figure));
                    value["ratio-to-floor"] = json!(row.ratio(servers, index, figure));
                    value["rounds"] = rounds.iter().map(|figures| figures[figure]).collect();
                    values.push(value);
                }
            }
            Cell::Unavailable => values.push(with("unavailable", json!(true))),
            Cell::Failed(why) => values.push(with("failed", json!(why))),
        }
    }
    values
}

fn header(servers: &[Server]) -> Vec<String> {
    let names = servers.iter().map(|server| server.spec.name.clone());
    [String::new(), String::new()].into_iter().chain(names).chain(["aim".to_owned()]).collect()
}

fn line(row: &Row, figure: usize, servers: &[Server]) -> Vec<String> {
    let title = if figure == 0 { row.title() } else { String::new() };
    let described = row.case.figures[figure];
    let cells = (0..servers.len()).map(|server| cell(row, server, figure, servers));
    let aims: Vec<String> = row.case.aims.iter().filter(|aim| aim.figure == figure).map(aim_text).collect();
    let head = [title, format!("{}, {}", described.name, described.unit)];
    head.into_iter().chain(cells).chain([aims.join(", ")]).collect()
}

fn cell(row: &Row, server: usize, figure: usize, servers: &[Server]) -> String {
    let cell = &row.cells[server];
    match cell {
        Cell::Measured { .. } => {}
        Cell::Unavailable => return "n/a".into(),
        Cell::Failed(_) => return "FAILED".into(),
    }
    let mut value = cell.median(figure).map(number).unwrap_or_default();
    if cell.unsteady(figure) {
        value.insert(0, '~');
    }
    match row.ratio(servers, server, figure) {
        Some(ratio) => format!("{value} ({}x)", small(ratio)),
        None => value,
    }
}

/// "<= 1.10x polled".
fn aim_text(aim: &Aim) -> String {
    let bound = match aim.bound {
        Bound::TimesFloor(most) => format!("<= {most:.2}x"),
        Bound::Value(most) => format!("<= {most}"),
    };
    match aim.mode {
        None => bound,
        Some(mode) => format!("{bound} {}", format!("{mode:?}").to_lowercase()),
    }
}

/// Which aims were met, and loudly which were not.
fn verdict(rows: &[Row], servers: &[Server]) -> String {
    let (mut met, mut missed, mut unknown) = (0, Vec::new(), Vec::new());
    for row in rows {
        for aim in row.case.aims {
            for (index, server) in servers.iter().enumerate() {
                if !server.mode.is_some_and(|mode| aim.holds_for(mode)) {
                    continue;
                }
                let ratio = row.ratio(servers, index, aim.figure);
                let value = row.cells[index].median(aim.figure);
                let what = format!("{}, {}", server.spec.name, row.title());
                let figure = row.case.figures[aim.figure];
                let is = match aim.bound {
                    Bound::TimesFloor(_) => {
                        ratio.map(|ratio| format!("{ratio:.3}x its floor's {}", figure.name))
                    }
                    Bound::Value(_) => {
                        value.map(|value| format!("{} {} {}", figure.name, small(value), figure.unit))
                    }
                };
                match (aim.met(value, ratio), is) {
                    (Some(true), _) => met += 1,
                    (Some(false), Some(is)) => missed.push(format!("{what}: {is}, aim {}", aim_text(aim))),
                    _ => unknown.push(format!("{what}: no figure, aim {}", aim_text(aim))),
                }
            }
        }
    }
    let mut text = format!("Aims: {met} met, {} MISSED, {} not measured.\n", missed.len(), unknown.len());
    for line in missed {
        let _ = writeln!(text, "*** MISSED *** {line}");
    }
    for line in unknown {
        let _ = writeln!(text, "*** NOT MEASURED *** {line}");
    }
    text
}
