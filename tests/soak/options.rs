//! What the soak is asked to do.

use std::time::Duration;

use anyhow::{Context as _, bail};

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
Load on a whole control plane while its parts are killed at random; proves at the end that nothing
was lost, doubled or left behind.

Usage: muster-soak [--minutes N] [--seed N] [--width N] [--pause SECONDS] [--output text|json]

  --minutes N        how long work is submitted and faults are injected (default 10)
  --seed N           order and kind of the faults and of the work (default: a new one, printed)
  --width N          executions under way at a time (default 12)
  --pause SECONDS    longest pause between two faults (default 12)
  --output FORM      summary as text or as one JSON document (default text)

Starts two servers over one PostgreSQL database and one blob store on this machine, and installs an
agent in each cluster of MUSTER_TEST_KUBECONFIGS. Kills, with SIGKILL, servers, the pods and the
processes of agents, the pods and the processes of conductors. With MUSTER_TEST_CHAOS it also cuts
the clusters' links and kills their kubelets, API servers, controllers and schedulers.

Environment:
  MUSTER_TEST_KUBECONFIGS, MUSTER_TEST_SERVER_HOST, MUSTER_TEST_AGENT_IMAGE,
  MUSTER_TEST_RUNNER_IMAGE, …   as for the cluster suite, see docs/testing.md
  MUSTER_TEST_POSTGRES          a role that may make databases, as a URL
  MUSTER_TEST_S3                blobs go there, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;
                                else to a folder that both servers share
  MUSTER_TEST_CHAOS             program with `partition NAME`, `heal NAME` and
                                `component NAME COMPONENT kill|start`

Examples:
  muster-soak --minutes 30
  muster-soak --minutes 3 --seed 7 --output json >soak.json

Ends with 0 when all held, with 1 when something did not.";

/// The command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// How long to go on.
    pub(crate) time: Duration,
    /// Where randomness begins.
    pub(crate) seed: u64,
    /// Executions under way at a time.
    pub(crate) width: u64,
    /// Longest pause between two faults.
    pub(crate) pause: Duration,
    /// The summary is JSON.
    pub(crate) json: bool,
}

impl Options {
    /// Reads the command line; nothing when it asks for help.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
    ) -> anyhow::Result<Option<Self>> {
        let mut options = Self {
            time: Duration::from_secs(10 * 60),
            seed: rand::random_range(0..1_000_000),
            width: 12,
            pause: Duration::from_secs(12),
            json: false,
        };
        while let Some(flag) = arguments.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let value = arguments.next();
            let value = value.with_context(|| format!("{flag} needs a value\n\n{USAGE}"))?;
            let number = || value.parse().with_context(|| format!("{flag} {value}"));
            match flag.as_str() {
                "--minutes" => options.time = Duration::from_secs(60 * positive(number()?)?),
                "--seed" => options.seed = number()?,
                "--width" => options.width = positive(number()?)?,
                "--pause" => options.pause = Duration::from_secs(positive(number()?)?),
                "--output" => options.json = is_json(&value)?,
                _ => bail!("unknown flag '{flag}'\n\n{USAGE}"),
            }
        }
        Ok(Some(options))
    }
}

fn positive(number: u64) -> anyhow::Result<u64> {
    anyhow::ensure!(number > 0, "a number above 0 is wanted");
    Ok(number)
}

fn is_json(form: &str) -> anyhow::Result<bool> {
    match form {
        "json" => Ok(true),
        "text" => Ok(false),
        _ => bail!("--output is text or json, not '{form}'"),
    }
}
