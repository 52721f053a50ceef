//! Draws the live view.

use std::time::Duration;

use observer_events::agents::AgentState;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, Wrap};

use super::app::App;
use crate::daemon_status::DaemonStatus;
use crate::describe::{AGENT_COLUMNS, INCIDENT_COLUMNS, agent_row, incident_row, known, summary};

/// An incident within this time is shown in red.
const RECENT: Duration = Duration::from_secs(10);
/// Incidents that are shown at most.
const MAX_INCIDENTS: u16 = 8;
/// Lines of a table that are not rows: its borders and its head.
const FRAME_LINES: u16 = 3;

const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const WARNING: Style = Style::new().fg(Color::Yellow);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws everything, and notes in `app` how many agents fit.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let Some(status) = app.status.take() else {
        let waiting = app
            .failure
            .as_deref()
            .unwrap_or("waiting for the status ...");
        // What is wrong, and then what to do about it.
        let lines = waiting.split("; ").chain(["", KEYS]).map(Line::from);
        let text = Paragraph::new(lines.collect::<Vec<_>>()).wrap(Wrap { trim: true });
        frame.render_widget(text, frame.area());
        return;
    };
    let lines = head(&status, app);
    let incidents = u16::try_from(status.incidents.len()).unwrap_or(MAX_INCIDENTS);
    let [top, middle, bottom, foot] = Layout::vertical([
        Constraint::Length(u16::try_from(lines.len()).unwrap_or(u16::MAX)),
        Constraint::Min(FRAME_LINES.saturating_add(1)),
        Constraint::Length(
            incidents
                .clamp(1, MAX_INCIDENTS)
                .saturating_add(FRAME_LINES),
        ),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(lines), top);
    draw_agents(frame, middle, app, &status);
    draw_incidents(frame, bottom, &status);
    frame.render_widget(footer(app), foot);
    app.status = Some(status);
}

const KEYS: &str = "q quit   p pause   arrows, page keys, g scroll";

fn head(status: &DaemonStatus, app: &App) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = summary(status).into_iter().map(Line::from).collect();
    if let (Some(rate), Some(first)) = (app.rate, lines.first_mut()) {
        first.push_span(format!(", {rate:.0} beats/s"));
    }
    for line in &mut lines {
        let text = line.to_string();
        let is_loss = text.starts_with("lost: ") && text != "lost: nothing";
        let is_degraded = text.starts_with("unix ") && !text.ends_with("tier btf");
        if is_loss || is_degraded {
            *line = Line::styled(text, WARNING);
        }
    }
    lines
}

fn draw_agents(frame: &mut Frame<'_>, area: Rect, app: &mut App, status: &DaemonStatus) {
    app.fitting = usize::from(area.height.saturating_sub(FRAME_LINES));
    let count = usize::try_from(known(&status.observer)).unwrap_or(usize::MAX);
    app.first = app.first.min(count.saturating_sub(app.fitting));
    let shown = status.agents.iter().skip(app.first).take(app.fitting);
    let rows = shown.map(|agent| {
        let style = match agent.state {
            AgentState::Ok => Style::new(),
            AgentState::Degraded => WARNING,
            AgentState::Critical | AgentState::Silent => ALARM,
        };
        Row::new(agent_row(agent).map(Cell::from)).style(style)
    });
    let last = app.first.saturating_add(app.fitting).min(count);
    let title = match count {
        0 => " agents: none has beaten yet ".to_owned(),
        _ => format!(" agents {}-{last} of {count} ", app.first.saturating_add(1)),
    };
    let widths = [8, 8, 9, 10, 11, 6, 15];
    frame.render_widget(table(rows, &widths, AGENT_COLUMNS, title), area);
}

fn draw_incidents(frame: &mut Frame<'_>, area: Rect, status: &DaemonStatus) {
    let rows = status.incidents.iter().map(|incident| {
        let age = status.age(incident);
        let style = if age < RECENT { ALARM } else { Style::new() };
        Row::new(incident_row(incident, age).map(Cell::from)).style(style)
    });
    let title = match status.incidents.len() {
        0 => " incidents: none ",
        _ => " incidents, the latest first ",
    };
    let widths = [6, 10, 18, 8, 10, 6, 15];
    frame.render_widget(
        table(rows, &widths, INCIDENT_COLUMNS, title.to_owned()),
        area,
    );
}

/// A table whose last column gets what the others leave.
fn table<'a, const N: usize>(
    rows: impl Iterator<Item = Row<'a>>,
    widths: &[u16],
    head: [&'static str; N],
    title: String,
) -> Table<'a> {
    let widths = widths.iter().map(|&width| Constraint::Length(width));
    Table::new(rows, widths.chain([Constraint::Fill(1)]))
        .header(Row::new(head).style(FAINT))
        .block(
            Block::new()
                .borders(Borders::TOP | Borders::BOTTOM)
                .title(title),
        )
}

fn footer(app: &App) -> Line<'_> {
    match (&app.failure, app.paused) {
        (Some(failure), _) => Line::styled(format!("trying again: {failure}"), ALARM),
        (None, true) => Line::styled("paused; p goes on", WARNING),
        (None, false) => Line::styled(KEYS, FAINT),
    }
}
