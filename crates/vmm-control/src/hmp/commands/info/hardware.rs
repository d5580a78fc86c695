//! CPUs and KVM.

use qmp_command::CommandResult;
use serde::Deserialize;

use crate::hmp::{HumanCommand, HumanContext};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("info cpus")
            .help("show the CPUs; * marks the one that commands are about")
            .handler(async |context, _| cpus(&context).await),
        HumanCommand::new("info kvm")
            .help("show whether KVM is used")
            .handler(async |context, _| kvm(&context).await),
    ]
}

/// A CPU, as `query-cpus-fast` returns it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cpu {
    cpu_index: u32,
    thread_id: i64,
}

async fn cpus(context: &HumanContext) -> CommandResult<String> {
    let list: Vec<Cpu> = context.query("query-cpus-fast", &()).await?;
    let chosen = context.cpu();
    let line = |cpu: &Cpu| {
        let mark = if Some(cpu.cpu_index) == chosen { '*' } else { ' ' };
        format!("{mark} CPU #{}: thread_id={}\n", cpu.cpu_index, cpu.thread_id)
    };
    Ok(list.iter().map(line).collect())
}

/// What `query-kvm` returns.
#[derive(Deserialize)]
struct Kvm {
    present: bool,
    enabled: bool,
}

async fn kvm(context: &HumanContext) -> CommandResult<String> {
    let Kvm { present, enabled } = context.query("query-kvm", &()).await?;
    let support = match (present, enabled) {
        (true, true) => "enabled",
        (true, false) => "disabled",
        (false, _) => "not compiled",
    };
    Ok(format!("kvm support: {support}\n"))
}
