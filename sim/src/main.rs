//! The command `sim`: one seed again, a campaign of many, or the table of planted bugs.

use std::process::ExitCode;

use cairn_sim::campaign::What;
use cairn_sim::stories::Story;
use cairn_sim::{campaign, logs, planted};
use clap::Parser;

/// Runs real members on simulated disks, wires and clocks, and checks what must always hold.
///
/// A seed fixes everything: a violation is printed with the command that shows it again.
#[derive(Parser)]
#[command(
    name = "sim",
    version,
    after_help = "Example: sim --seeds 500\n         sim --seed 17 --nodes 5\n\n\
                  CAIRN_SIM_TRACE=1 prints what happens, CAIRN_SIM_LOG=1 what the nodes log."
)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["seed", "seeds", "planted"]))]
struct Arguments {
    /// Run this seed once and say what happened.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed of a campaign.
    #[arg(long, default_value_t = 0, requires = "seeds")]
    from: u64,
    /// Members at the beginning, 3 to 7; another number for each seed if it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(3..=7))]
    nodes: Option<u64>,
    /// The story that every seed tells; another for each seed if it is not given.
    #[arg(long)]
    story: Option<Story>,
    /// Plant every known bug in turn; each must be caught, and the same seed without it be good.
    #[arg(long, conflicts_with_all = ["nodes", "story"])]
    planted: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logs();
    let what = What {
        nodes: arguments.nodes,
        story: arguments.story,
    };
    let good = if let Some(seed) = arguments.seed {
        one(seed, what)
    } else if arguments.planted {
        bugs()
    } else {
        let seeds = arguments.seeds.unwrap_or_default();
        let report = campaign::campaign(arguments.from, seeds, what);
        report.print(what);
        report.is_good()
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn one(seed: u64, what: What) -> bool {
    let run = campaign::one(seed, what);
    println!("seed        {seed}");
    println!("story       {:?}", what.story(seed));
    println!("members     {}", campaign::nodes_of(seed, what));
    println!("trace       {} ({} events)", run.hash, run.events);
    println!("simulated   {:.1} s", run.simulated.as_secs_f64());
    for (fault, count) in run.notes.faults() {
        println!("fault       {count} {fault}");
    }
    for (mark, count) in run.notes.marks() {
        println!("mark        {count} {}", mark.name());
    }
    match &run.outcome {
        Ok(acknowledged) => println!("outcome     good, {acknowledged} acknowledged"),
        Err(violation) => println!("outcome     VIOLATION {violation}"),
    }
    run.outcome.is_ok()
}

fn bugs() -> bool {
    // Some planted bugs end in a panic of the node, which is one way to be caught.
    std::panic::set_hook(Box::new(|_| {}));
    let mut good = true;
    println!("{:>3}  {:<42} {:>5}  caught by", "bug", "planted", "seeds");
    for bug in planted::table() {
        let (seeds, by) = match planted::hunt(&bug) {
            Some(caught) => {
                if let Err(without) = caught.without {
                    good = false;
                    println!("without the bug the same seed says: {without}");
                }
                (caught.seeds.to_string(), caught.by)
            }
            None => {
                good = false;
                (format!(">{}", bug.budget), "NOT CAUGHT".to_owned())
            }
        };
        let by: String = by
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(110)
            .collect();
        println!("{:>3}  {:<42} {seeds:>5}  {by}", bug.number, bug.what);
    }
    good
}
