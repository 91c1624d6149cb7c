//! The lines that `way` and `replay` send.

use std::fmt::Write as _;

/// Between two moments of a fleet, ns.
const STEP_NS: u64 = 10_000_000_000;

const START_NS: u64 = 1_767_225_600_000_000_000;

/// Lines of one moment, the `step`th, one a host, ten tags and ten fields each.
pub(crate) fn body(step: u64, hosts: u64) -> String {
    let time_ns = START_NS + step * STEP_NS;
    let mut text = String::new();
    for host in 0..hosts {
        write!(text, "cpu,hostname=host_{host},region=eu-west-1,datacenter=eu-west-1b,rack={},os=Ubuntu16.10,arch=x64,team=SF,service={},service_version=1,service_environment=production", host % 100, host % 20)
            .expect("a string takes everything");
        for field in 0..10 {
            let separator = if field == 0 { ' ' } else { ',' };
            let value = (host * 7 + field * 13 + step * 3) % 100;
            write!(text, "{separator}usage_field_{field}={value}i")
                .expect("a string takes everything");
        }
        writeln!(text, " {time_ns}").expect("a string takes everything");
    }
    text
}
