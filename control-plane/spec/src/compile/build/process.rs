//! Processes: `run` and `shell` of a step.

use super::{Above, Builder};
use crate::compile::container::Demand;
use crate::compile::environment::{self, Environment};
use crate::compile::secret::Secrets;
use crate::compile::{MAX_PLAN_BYTES, merge};
use crate::expression::Value;
use crate::plan::{self, Command, Operation};
use crate::problem::Problem;
use crate::schema::{Container, EnvValue, Run, Text};

impl Builder<'_> {
    pub(super) fn run(
        &mut self,
        run: &Run,
        here: Above<'_>,
        demand: &Demand,
    ) -> (Operation, usize) {
        let mut settings = merge::container(here.settings, &run.container);
        if let Some(script) = &run.shell {
            return self.shell(script, &settings, demand);
        }
        let secrets = self.name_secrets(&mut settings, None);
        let texts = |list: &Option<Vec<Text>>| {
            let list = list.as_ref()?;
            Some(
                list.iter()
                    .map(|text| text.text.clone())
                    .collect::<Vec<_>>(),
            )
        };
        let command = texts(&settings.command);
        let args = texts(&settings.args);
        let from_image = command.as_ref().is_none_or(Vec::is_empty);
        let (operation, container) =
            self.process(Command::Exec { command, args }, &settings, secrets, demand);
        if from_image {
            let image = settings.image.as_ref();
            if here.whole && image.is_none_or(|image| image.text.trim().is_empty()) {
                let message = "`run` has no `image`, so it needs a `command` or a `shell`";
                self.problems.push(Problem::new(&run.place, message));
            }
            self.containers.need_image_config(container);
        }
        (operation, container)
    }

    pub(super) fn shell(
        &mut self,
        script: &Text,
        settings: &Container,
        demand: &Demand,
    ) -> (Operation, usize) {
        let (mut settings, mut script) = (settings.clone(), script.clone());
        let secrets = self.name_secrets(&mut settings, Some(&mut script));
        let script = script.text;
        self.process(Command::Shell { script }, &settings, secrets, demand)
    }

    /// Puts variables in place of the secrets that a process names; gives these variables.
    pub(super) fn name_secrets(
        &mut self,
        settings: &mut Container,
        script: Option<&mut Text>,
    ) -> Vec<Value> {
        let names = settings.env.iter().map(|variable| &variable.name);
        let mut secrets = Secrets::beside(names);
        secrets.replace_all(settings, self.problems);
        if let Some(script) = script {
            script.text = secrets.replace(script, self.problems);
        }
        secrets.into_variables()
    }

    fn process(
        &mut self,
        command: Command,
        settings: &Container,
        secrets: Vec<Value>,
        demand: &Demand,
    ) -> (Operation, usize) {
        self.bytes += cost(&command, settings);
        if self.bytes > MAX_PLAN_BYTES {
            let place = settings.env.first().map(|variable| &variable.place);
            let place = place.map(|place| (**place).clone()).unwrap_or_default();
            let message = format!(
                "scripts, arguments and variables of all steps have more than {MAX_PLAN_BYTES} bytes"
            );
            self.problems.push(Problem::new(&place, message));
            return (Operation::Steps { steps: Vec::new() }, 0);
        }
        let Environment { plain, cluster } = environment::split(&settings.env);
        let environment = Environment {
            plain: Vec::new(),
            cluster: [cluster, secrets].concat(),
        };
        let container = self
            .containers
            .index(settings, &environment, demand, self.problems);
        let operation = Operation::Run(plan::Run {
            container,
            command,
            env: plain,
            working_dir: settings.working_dir.as_ref().map(|text| text.text.clone()),
        });
        (operation, container)
    }
}

/// Bytes that a process adds to the plan, roughly.
fn cost(command: &Command, settings: &Container) -> usize {
    let texts = |list: &Option<Vec<String>>| {
        list.iter()
            .flatten()
            .map(|text| text.len() + 3)
            .sum::<usize>()
    };
    let command = match command {
        Command::Shell { script } => script.len(),
        Command::Exec { command, args } => texts(command) + texts(args),
    };
    let variables = settings.env.iter().map(|variable| match &variable.value {
        EnvValue::Plain(text) => variable.name.len() + text.text.len() + 23,
        EnvValue::From(_) => 0,
    });
    command + variables.sum::<usize>()
}
