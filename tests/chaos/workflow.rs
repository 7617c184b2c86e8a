//! The workflow of most tests: lines that are counted, so that each missing one shows.

use anyhow::ensure;
use muster_tests::run::{Run, step};

/// Prints so many numbered lines, half a second apart; `recovery` is what follows a bad end.
pub(crate) fn counting(lines: u32, recovery: &str) -> String {
    format!(
        r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: counting
spec:
  execution:
    recovery: {{{recovery}}}
  container:
    image: alpine:3.22.0
  steps:
  - name: count
    shell: |
      i=1
      while [ $i -le {lines} ]; do echo "line $i"; sleep 0.5; i=$((i+1)); done
"#
    )
}

/// Proves that the log holds every line of [`counting`] once, and nothing else.
pub(crate) async fn expect_every_line(run: &Run, lines: u32) -> anyhow::Result<()> {
    let log = run.whole_log().await?;
    let execution = run.now().await?;
    let counted = log.of_step(&step(&execution, "count")?.reference);
    let expected: String = (1..=lines).map(|line| format!("line {line}\n")).collect();
    ensure!(counted == expected, "{counted}");
    Ok(())
}
