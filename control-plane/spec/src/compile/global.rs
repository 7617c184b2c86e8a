//! The global template: what an installation puts below every execution. It is used as if the
//! workflow, and each `parallel` of its own, named it first in `use`; services get the settings
//! of their containers and pods from it.

use std::sync::Arc;

use crate::problem::Place;
use crate::schema::{Container, Execution, Services, Spec, Step, Template, TemplateRef, Text};

use super::merge;
use super::template::{Library, under};

impl Library<'_> {
    /// An expanded spec over the global template.
    pub(super) fn over_global(&mut self, spec: Spec, template: &Template) -> Spec {
        let place = Place::document(&format!("global template {}", template.metadata.name));
        let reference = TemplateRef {
            name: Text {
                text: template.metadata.name.clone(),
                place: Arc::new(place),
            },
            config: indexmap::IndexMap::new(),
        };
        match self.instance_of(template, &reference) {
            Some(global) => {
                // Its own workers get its settings, or they would have themselves for ever.
                let settings = Spec {
                    container: global.container.clone(),
                    job: global.job.clone(),
                    pod: global.pod.clone(),
                    system: global.system,
                    ..Spec::default()
                };
                let mut own = global;
                self.parts_over(&mut own, &settings, &reference.name);
                self.over(spec, &own, &reference.name)
            }
            None => spec,
        }
    }

    fn over(&mut self, mut spec: Spec, global: &Spec, name: &Text) -> Spec {
        self.parts_over(&mut spec, global, name);
        under(global.clone(), spec)
    }

    /// Services and workers of a spec, wherever they are.
    fn parts_over(&mut self, spec: &mut Spec, global: &Spec, name: &Text) {
        services(&mut spec.services, global);
        for steps in [&mut spec.setup, &mut spec.steps, &mut spec.after] {
            self.steps_over(steps, global, name);
        }
    }

    fn steps_over(&mut self, steps: &mut [Step], global: &Spec, name: &Text) {
        for step in steps {
            services(&mut step.services, global);
            self.steps_over(&mut step.setup, global, name);
            self.steps_over(&mut step.steps, global, name);
            let Some(parallel) = &mut step.parallel else {
                continue;
            };
            // Where workers run is said by `parallel` alone.
            let global = &Spec {
                execution: Execution::default(),
                ..global.clone()
            };
            if self.weigh_again(global, name).is_some() {
                let worker = std::mem::take(&mut parallel.worker);
                parallel.worker = self.over(worker, global, name);
            }
        }
    }
}

/// Settings of services: not what runs, nor an environment that is not theirs.
fn services(services: &mut Services, global: &Spec) {
    let settings = Container {
        image: None,
        working_dir: None,
        command: None,
        args: None,
        env: Vec::new(),
        env_from: Vec::new(),
        ..global.container.clone()
    };
    for service in services.values_mut() {
        service.container = merge::container(&settings, &service.container);
        service.pod = merge::pod(&global.pod, &service.pod);
    }
}
