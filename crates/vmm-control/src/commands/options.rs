//! `query-command-line-options`: what the program's command line takes, as its author says.

use std::sync::Arc;

use qmp_command::{Command, CommandError, Context, QapiType};
use serde::{Deserialize, Serialize};

use crate::plane::Shared;

/// What a parameter's value can be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CommandLineParameterType {
    /// Any text.
    String,
    /// `on` or `off`.
    Boolean,
    /// A whole number.
    Number,
    /// A number of bytes, with a suffix (K, M, G, T) if need be.
    Size,
}

/// A parameter of a command-line option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QapiType)]
#[qapi(name = "CommandLineParameterInfo")]
pub struct CommandLineParameter {
    /// Its name.
    name: &'static str,
    /// What its value can be.
    #[serde(rename = "type")]
    ty: CommandLineParameterType,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'static str>,
    /// Its value when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<&'static str>,
}

impl CommandLineParameter {
    /// A parameter of this name and type.
    #[must_use]
    pub const fn new(name: &'static str, ty: CommandLineParameterType) -> Self {
        Self { name, ty, help: None, default: None }
    }

    /// What it is for.
    #[must_use]
    pub const fn help(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }

    /// Its value when it is not given.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// A command-line option that has parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QapiType)]
#[qapi(name = "CommandLineOptionInfo")]
pub struct CommandLineOption {
    /// Its name.
    option: &'static str,
    /// What it takes. Empty also for one that takes whatever its object or device takes.
    parameters: Vec<CommandLineParameter>,
}

impl CommandLineOption {
    /// An option with these parameters.
    #[must_use]
    pub fn new(option: &'static str, parameters: Vec<CommandLineParameter>) -> Self {
        Self { option, parameters }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.option
    }

    /// What it takes.
    #[must_use]
    pub fn parameters(&self) -> &[CommandLineParameter] {
        &self.parameters
    }
}

/// Which option to describe.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_query-command-line-options-arg")]
struct Arguments {
    /// Its name; all of them when absent.
    option: Option<String>,
}

pub(super) fn query_command_line_options(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("query-command-line-options")
        .doc("Describes the options of the program's command line.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, Arguments { option }: Arguments| {
            let all = &plane.command_line_options;
            std::future::ready(match option {
                None => Ok(all.clone()),
                Some(name) => match all.iter().find(|known| known.option == name) {
                    Some(found) => Ok(vec![found.clone()]),
                    None => Err(CommandError::generic(format!("invalid option name: {name}"))),
                },
            })
        })
}
