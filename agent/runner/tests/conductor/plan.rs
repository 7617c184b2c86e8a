//! Short ways to write a plan.

use muster_spec::plan::{
    Artifacts, Command, Container, EnvVar, File, Operation, PLAN_VERSION, Plan, Pod, Resources,
    Retry, Run, Step,
};

/// A plan of these steps, with the containers `c0` and `c1`.
pub(crate) fn plan(steps: Vec<Step>) -> Plan {
    Plan {
        version: PLAN_VERSION,
        context: [(
            "execution".to_owned(),
            serde_json::json!({"name": "smoke-1"}),
        )]
        .into(),
        env: vec![variable("PLAN", "of the plan")],
        containers: vec![container("c0"), container("c1")],
        pod: Pod::default(),
        credentials: std::collections::BTreeSet::new(),
        masked: std::collections::BTreeSet::new(),
        service: None,
        steps,
    }
}

fn container(name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: None,
        tool: None,
        image_pull_policy: None,
        needs_image_config: false,
        env_from_cluster: Vec::new(),
        env_from: Vec::new(),
        resources: Resources::default(),
        security_context: None,
        volume_mounts: Vec::new(),
    }
}

pub(crate) fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// A step with these operations.
pub(crate) fn step(reference: &str, operations: Vec<Operation>) -> Step {
    Step {
        reference: reference.to_owned(),
        id: None,
        name: format!("step {reference}"),
        condition: "passed".to_owned(),
        optional: false,
        negative: false,
        paused: false,
        retry: None,
        timeout: None,
        after: false,
        operations,
    }
}

/// A step that runs a script in the first container.
pub(crate) fn shell(reference: &str, script: &str) -> Step {
    step(reference, vec![script_in(0, script)])
}

/// A step that runs a program in the first container.
pub(crate) fn exec(reference: &str, command: &[&str]) -> Step {
    let command = Command::Exec {
        command: Some(command.iter().map(|text| (*text).to_owned()).collect()),
        args: None,
    };
    step(reference, vec![process(0, command)])
}

pub(crate) fn script_in(container: usize, script: &str) -> Operation {
    let command = Command::Shell {
        script: script.to_owned(),
    };
    process(container, command)
}

pub(crate) fn process(container: usize, command: Command) -> Operation {
    Operation::Run(Run {
        container,
        command,
        env: Vec::new(),
        working_dir: None,
    })
}

pub(crate) fn group(reference: &str, steps: Vec<Step>) -> Step {
    step(reference, vec![Operation::Steps { steps }])
}

pub(crate) fn files(path: &str, content: &str) -> Operation {
    Operation::Files {
        container: Some(0),
        files: vec![File {
            path: path.to_owned(),
            content: content.to_owned(),
            mode: 0o640,
            values: None,
        }],
    }
}

pub(crate) fn keep(container: Option<usize>, working_dir: &str, paths: &[&str]) -> Operation {
    Operation::Artifacts(Artifacts {
        container,
        working_dir: Some(working_dir.to_owned()),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        compress: None,
    })
}

/// Changes of a step, one after another.
pub(crate) trait Changed: Sized {
    fn with(self, change: impl FnOnce(&mut Step)) -> Step;

    fn optional(self) -> Step {
        self.with(|step| step.optional = true)
    }

    fn negative(self) -> Step {
        self.with(|step| step.negative = true)
    }

    fn when(self, condition: &str) -> Step {
        self.with(|step| step.condition = condition.to_owned())
    }

    /// As the workflow's `after` list has it, with `condition: always`.
    fn after(self) -> Step {
        self.with(|step| {
            step.after = true;
            step.condition = "always".to_owned();
        })
    }

    fn timeout(self, timeout: &str) -> Step {
        self.with(|step| step.timeout = Some(timeout.to_owned()))
    }

    fn retry(self, count: u32, until: &str) -> Step {
        self.with(|step| {
            step.retry = Some(Retry {
                count,
                until: until.to_owned(),
                backoff: false,
            });
        })
    }

    fn id(self, id: &str) -> Step {
        self.with(|step| step.id = Some(id.to_owned()))
    }

    fn and(self, operation: Operation) -> Step {
        self.with(|step| step.operations.push(operation))
    }
}

impl Changed for Step {
    fn with(mut self, change: impl FnOnce(&mut Step)) -> Step {
        change(&mut self);
        self
    }
}
