//! A page of help for each command, as `docs/cli/*.md` holds them. A test compares the two.

use super::Cli;
use clap::{Command, CommandFactory};

/// Columns of the help text on a page.
const WIDTH: usize = 96;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// `topics-create.md`
    pub file: String,
    pub text: String,
}

/// The command itself first, then its subcommands in their order.
pub fn pages() -> Vec<Page> {
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut pages);
    pages
}

fn collect(command: &Command, pages: &mut Vec<Page>) {
    let path = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let file = match path.split_once(' ') {
        Some((_, rest)) => format!("{}.md", rest.replace(' ', "-")),
        None => "driftless.md".to_owned(),
    };
    let help = command.clone().render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let mut text = format!("# {path}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    let children: Vec<&Command> = command.get_subcommands().filter(|child| child.get_name() != "help").collect();
    if !children.is_empty() {
        text += "\n";
    }
    for child in &children {
        let child_path = child.get_bin_name().unwrap_or(child.get_name());
        let link = child_path.split_once(' ').map_or(child_path, |(_, rest)| rest).replace(' ', "-");
        text += &format!("- [{child_path}]({link}.md)\n");
    }
    pages.push(Page { file, text });
    for child in children {
        collect(child, pages);
    }
}
