//! What a step starts beside itself: `services`, `parallel`, `execute`. Their specs go into the
//! plan as they are, with the settings that they have from here; they are compiled when all is
//! known ([`crate::compile::child`]).

use std::sync::Arc;

use serde_json::Value;

use super::Builder;
use super::content::with_directory;
use crate::compile::{environment, merge, probe, secret};
use crate::expression::NoScope;
use crate::plan::{self, Operation};
use crate::problem::{Place, Problem};
use crate::schema::{
    self, Container, DynamicList, Execute, Parallel, Pod, Run, Service, Services, Spec, Step, Text,
};
use crate::strategy::{self, Error, Instances};

impl Builder<'_> {
    /// The operation that starts services; nothing when there are none.
    pub(super) fn services(
        &mut self,
        services: &Services,
        settings: &Container,
        lasting: bool,
    ) -> Option<Operation> {
        if services.is_empty() {
            return None;
        }
        let services = services.iter();
        let services = services.map(|(name, service)| self.service(name, service, settings));
        Some(Operation::Services {
            services: services.collect(),
            lasting,
        })
    }

    fn service(&mut self, name: &str, service: &Service, settings: &Container) -> plan::Service {
        self.check_duration(service.timeout.as_ref());
        let own = &service.container;
        let has_program = service.shell.is_some()
            || [&own.command, &own.args]
                .into_iter()
                .flatten()
                .any(|list| !list.is_empty());
        if !has_program && own.image.is_none() && service.uses.is_empty() {
            let message = format!("the service `{name}` has nothing to run");
            let cure = "give it an `image`, a `command` or a `shell`";
            self.problems
                .push(Problem::new(&service.place, message).with_cure(cure));
        }
        let global = Container {
            env: settings
                .env
                .iter()
                .filter(|variable| variable.global)
                .cloned()
                .collect(),
            ..Container::default()
        };
        let step = Step {
            name: Some(Text {
                text: name.to_owned(),
                place: Arc::clone(&service.place),
            }),
            run: Some(Run {
                place: Arc::clone(&service.place),
                container: Container::default(),
                shell: service.shell.clone(),
            }),
            ..Step::empty(Arc::clone(&service.place))
        };
        let spec = Spec {
            content: service.content.clone(),
            container: merge::container(&global, &service.container),
            job: self.job_of_child(&schema::Job::default()),
            pod: self.pod_of_child(&service.pod),
            claims: service.claims.clone(),
            steps: vec![step],
            ..Spec::default()
        };
        plan::Service {
            name: name.to_owned(),
            env: variables(settings),
            working_dir: working_dir(settings),
            service_dir: directory(&spec),
            strategy: self.strategy(&service.strategy, &service.place),
            description: text(service.description.as_ref()),
            timeout: text(service.timeout.as_ref()),
            transfer: service.transfer.iter().map(transfer).collect(),
            spec: Box::new(spec),
            readiness_probe: service.readiness_probe.clone().map(|mut probe| {
                probe::check(&mut probe, self.problems);
                probe.value
            }),
            restarts: service.restarts,
        }
    }

    /// The operation that runs workers; they have the settings of the step below their own, apart
    /// from volumes, which are those of another pod.
    pub(super) fn parallel(&mut self, parallel: &Parallel, settings: &Container) -> Operation {
        let mut inherited = settings.clone();
        inherited.volume_mounts.clear();
        let mut spec = parallel.worker.clone();
        spec.container = merge::container(&inherited, &spec.container);
        spec.job = self.job_of_child(&spec.job);
        spec.pod = self.pod_of_child(&spec.pod);
        let system = self.spec.system;
        spec.system.pure_by_default = spec.system.pure_by_default.or(system.pure_by_default);
        spec.system.isolated_containers = spec
            .system
            .isolated_containers
            .or(system.isolated_containers);
        let is_empty = spec.setup.is_empty() && spec.steps.is_empty() && spec.after.is_empty();
        if is_empty && parallel.uses.is_empty() {
            let message = "the workers have nothing to do";
            let cure = "give them `steps`, a `run` or a `shell`";
            self.problems
                .push(Problem::new(&parallel.place, message).with_cure(cure));
        }
        self.check_parallelism(parallel.parallelism.as_ref());
        Operation::Parallel(Box::new(plan::Parallel {
            env: variables(settings),
            working_dir: working_dir(settings),
            worker_dir: directory(&spec),
            strategy: self.strategy(&parallel.strategy, &parallel.place),
            parallelism: text(parallel.parallelism.as_ref()),
            fail_fast: parallel.fail_fast,
            paused: parallel.paused,
            description: text(parallel.description.as_ref()),
            transfer: parallel.transfer.iter().map(transfer).collect(),
            fetch: parallel.fetch.iter().map(transfer).collect(),
            spread: spec.execution.target.is_some(),
            spec: Box::new(spec),
        }))
    }

    /// The operation that runs other workflows.
    pub(super) fn execute(&mut self, execute: &Execute, settings: &Container) -> Operation {
        self.check_parallelism(execute.parallelism.as_ref());
        let workflows = execute.workflows.iter().map(|member| plan::Member {
            name: text(member.name.as_ref()),
            selector: member.selector.as_ref().map(selector),
            description: text(member.description.as_ref())
                .or_else(|| text(member.execution_name.as_ref())),
            strategy: self.strategy(&member.strategy, &member.place),
            config: member
                .config
                .iter()
                .map(|(name, value)| (name.clone(), value.text.clone()))
                .collect(),
            tarball: member
                .tarball
                .iter()
                .map(|(name, files)| (name.clone(), transfer(files)))
                .collect(),
            target: member.target.clone(),
        });
        Operation::Execute(plan::Execute {
            env: variables(settings),
            working_dir: working_dir(settings),
            parallelism: text(execute.parallelism.as_ref()),
            detached: execute.detached,
            workflows: workflows.collect(),
        })
    }

    fn check_parallelism(&mut self, given: Option<&Text>) {
        let Some(text) = given else { return };
        let number = strategy::number("parallelism", Some(&text.text), &NoScope);
        if let Err(Error::Wrong { message, .. }) = number {
            self.problems.push(Problem::new(&text.place, message));
        }
    }

    /// A strategy as the plan has it; what is wrong with it whatever comes is said now.
    fn strategy(&mut self, given: &schema::Strategy, place: &Place) -> plan::Strategy {
        let strategy = plan::Strategy::from(given);
        match Instances::resolve(&strategy, &NoScope) {
            Ok(instances) if instances.is_empty() => {
                let message = format!("nothing will run here: {}", instances.describe());
                self.warnings.push(Problem::new(place, message));
            }
            Ok(_) | Err(Error::Unknown(_)) => {}
            Err(Error::Wrong { field, message }) => {
                let (place, message) = match given.place_of(&field) {
                    Some(place) => (&**place, message),
                    None => (place, format!("{field}: {message}")),
                };
                self.problems.push(Problem::new(place, message));
            }
        }
        strategy
    }

    fn job_of_child(&self, own: &schema::Job) -> schema::Job {
        schema::Job {
            namespace: own
                .namespace
                .clone()
                .or_else(|| self.spec.job.namespace.clone()),
            ..own.clone()
        }
    }

    /// The pod of a child has what is needed to pull the same images.
    fn pod_of_child(&self, own: &Pod) -> Pod {
        let mut pod = own.clone();
        if let Some(secrets) = self.spec.pod.fields.get("imagePullSecrets")
            && !pod.fields.contains_key("imagePullSecrets")
        {
            pod.fields
                .insert("imagePullSecrets".to_owned(), secrets.clone());
        }
        pod
    }
}

impl From<&schema::Strategy> for plan::Strategy {
    fn from(strategy: &schema::Strategy) -> Self {
        let lists = |lists: &indexmap::IndexMap<String, DynamicList>| {
            let lists = lists.iter();
            lists
                .map(|(name, list)| (name.clone(), dynamic(list)))
                .collect()
        };
        Self {
            count: text(strategy.count.as_ref()),
            max_count: text(strategy.max_count.as_ref()),
            matrix: lists(&strategy.matrix),
            shards: lists(&strategy.shards),
            balance: strategy.balance,
        }
    }
}

/// Variables for texts that the conductor resolves, which has no secrets.
fn variables(settings: &Container) -> Vec<plan::EnvVar> {
    let mut plain = environment::split(&settings.env).plain;
    plain.retain(|variable| !secret::is_in(&variable.value));
    plain
}

/// Where relative paths of a child begin.
fn directory(spec: &Spec) -> Option<String> {
    working_dir(&with_directory(spec.container.clone(), &spec.content))
}

/// A working directory that the conductor can resolve, which has no secrets.
fn working_dir(settings: &Container) -> Option<String> {
    text(settings.working_dir.as_ref()).filter(|text| !secret::is_in(text))
}

fn text(text: Option<&Text>) -> Option<String> {
    text.map(|text| text.text.clone())
}

fn dynamic(list: &DynamicList) -> Value {
    match list {
        DynamicList::Items(items) => items.value.clone(),
        DynamicList::Expression(text) => Value::from(text.text.clone()),
    }
}

fn transfer(transfer: &schema::Transfer) -> plan::Transfer {
    plan::Transfer {
        from: transfer.from.text.clone(),
        files: transfer.files.as_ref().map(dynamic),
        to: text(transfer.to.as_ref()),
    }
}

fn selector(selector: &schema::Selector) -> plan::Selector {
    let labels = selector.labels.iter();
    let requirements = selector.requirements.iter().map(|requirement| {
        let values = requirement.values.iter().map(|text| text.text.clone());
        (
            requirement.key.clone(),
            requirement.operator.clone(),
            values.collect(),
        )
    });
    plan::Selector {
        labels: labels
            .map(|(name, text)| (name.clone(), text.text.clone()))
            .collect(),
        requirements: requirements.collect(),
    }
}
