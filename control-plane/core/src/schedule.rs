//! Who gets which work: pure, over a picture of the queue and of the agents that have room.
//!
//! Projects share by weight: the one that runs least for its weight is served next, so that a
//! million waiting executions of one project do not delay another one's first. Within a project
//! the order is that of the queue. How the picture is taken, and that a grant holds only if a
//! transaction says so, is the store's business.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use crate::{
    id::{AgentId, ExecutionId, ProjectId},
    target::Target,
};

/// An agent that can take work now.
#[derive(Debug, Clone)]
pub struct Taker<'a> {
    /// Who.
    pub agent: AgentId,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Projects that it may serve; empty for all.
    pub projects: &'a [ProjectId],
    /// How many more it can take.
    pub room: u32,
}

/// What a project has, and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Which one.
    pub project: ProjectId,
    /// Its part of the whole, against the weights of the others; at least 1.
    pub weight: u32,
    /// How many of its executions agents hold.
    pub running: u32,
    /// How many more may begin; `None` without a quota.
    pub left: Option<u32>,
}

/// Executions of one project that wait for the same: agents with the same labels, a place in the
/// same concurrency group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Their project.
    pub project: ProjectId,
    /// Where they may run.
    pub target: Target,
    /// Agents where an attempt of theirs could not begin: only when no other one accepts them.
    pub avoid: Vec<AgentId>,
    /// Their concurrency group.
    pub group: Option<Group>,
    /// The first of them, in the order of the queue.
    pub waiting: Vec<Place>,
}

impl Lane {
    /// Whether an agent with these labels, which may serve these projects (all when there are none), may
    /// take what waits here.
    #[must_use]
    pub fn accepts(&self, labels: &BTreeMap<String, String>, projects: &[ProjectId]) -> bool {
        serves(projects, self.project) && self.target.accepts(labels)
    }
}

/// Whether an agent that is for these projects, or for all when there are none, serves a project.
#[must_use]
pub fn serves(projects: &[ProjectId], project: ProjectId) -> bool {
    projects.is_empty() || projects.contains(&project)
}

/// A concurrency group of a project.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many of it run.
    pub running: u32,
    /// How many may run; at least 1.
    pub most: u32,
}

/// A place in the queue. Smaller ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The priority with its sign turned.
    pub rank: i64,
    /// Which execution; ids are in the order of creation.
    pub execution: ExecutionId,
}

/// Work for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// What.
    pub execution: ExecutionId,
    /// Of which project.
    pub project: ProjectId,
    /// For whom.
    pub agent: AgentId,
}

/// Plans at most `most` grants.
#[must_use]
pub fn plan(takers: &[Taker<'_>], shares: &[Share], lanes: &[Lane], most: usize) -> Vec<Grant> {
    let mut round = Round::new(takers, shares, lanes);
    let mut grants = Vec::new();
    while grants.len() < most {
        let Some(next) = round.next() else { break };
        round.serve(next, &mut grants);
    }
    grants
}

/// What is left while grants are made.
struct Round<'a> {
    lanes: &'a [Lane],
    projects: Vec<Project<'a>>,
    room: Vec<u32>,
    agents: Vec<AgentId>,
    queues: Vec<Queue>,
    begun: HashMap<(ProjectId, &'a str), u32>,
}

struct Project<'a> {
    share: &'a Share,
    running: u64,
    left: Option<u32>,
    /// Indices of its lanes.
    lanes: Vec<usize>,
}

struct Queue {
    /// Agents that accept it, the roomiest on top, with the room that each had when it was put there.
    takers: BinaryHeap<Candidate>,
    /// How many of its executions have been given out.
    given: usize,
    /// Nothing more of it can be given out in this round.
    done: bool,
}

/// An agent with room; of those with the same the first one is the greatest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    room: u32,
    index: Reverse<usize>,
}

#[derive(Clone, Copy)]
struct Next {
    project: usize,
    lane: usize,
    taker: usize,
}

impl<'a> Round<'a> {
    fn new(takers: &[Taker<'_>], shares: &'a [Share], lanes: &'a [Lane]) -> Self {
        let projects = shares
            .iter()
            .map(|share| Project {
                share,
                running: u64::from(share.running),
                left: share.left,
                lanes: (0..lanes.len())
                    .filter(|lane| lanes[*lane].project == share.project)
                    .collect(),
            })
            .collect();
        Self {
            lanes,
            projects,
            room: takers.iter().map(|taker| taker.room).collect(),
            agents: takers.iter().map(|taker| taker.agent).collect(),
            queues: lanes.iter().map(|lane| Queue::new(lane, takers)).collect(),
            begun: HashMap::new(),
        }
    }

    /// The next lane to be served, and the agent with most room for it.
    fn next(&mut self) -> Option<Next> {
        loop {
            let project = self.neediest()?;
            let lane = self.first_lane(project)?;
            if let Some(taker) = self.roomiest(lane) {
                return Some(Next {
                    project,
                    lane,
                    taker,
                });
            }
            self.queues[lane].done = true;
        }
    }

    /// The project that runs least for its weight, of those with something to give out.
    fn neediest(&self) -> Option<usize> {
        let open = (0..self.projects.len()).filter(|project| {
            let project = &self.projects[*project];
            project.left != Some(0) && project.lanes.iter().any(|lane| self.is_open(*lane))
        });
        open.min_by(|one, other| {
            let (a, b) = (&self.projects[*one], &self.projects[*other]);
            // a.running / a.weight against b.running / b.weight, without a division.
            let left = a.running * u64::from(b.share.weight.max(1));
            let right = b.running * u64::from(a.share.weight.max(1));
            let first = |project: &Project<'_>| {
                let heads = project.lanes.iter().filter_map(|lane| self.head(*lane));
                heads.min().map(|place| place.execution)
            };
            left.cmp(&right).then_with(|| first(a).cmp(&first(b)))
        })
    }

    /// The lane of a project whose head comes first in the queue.
    fn first_lane(&self, project: usize) -> Option<usize> {
        let lanes = self.projects[project].lanes.iter().copied();
        lanes
            .filter(|lane| self.is_open(*lane))
            .min_by_key(|lane| self.head(*lane))
    }

    fn head(&self, lane: usize) -> Option<Place> {
        let queue = &self.queues[lane];
        if queue.done {
            return None;
        }
        self.lanes[lane].waiting.get(queue.given).copied()
    }

    fn is_open(&self, lane: usize) -> bool {
        self.head(lane).is_some() && self.group_left(lane) > 0
    }

    /// How many more of a lane's group may begin.
    fn group_left(&self, lane: usize) -> u32 {
        let lane = &self.lanes[lane];
        lane.group.as_ref().map_or(u32::MAX, |group| {
            let begun = self.begun.get(&(lane.project, group.name.as_str()));
            let taken = group.running.saturating_add(begun.copied().unwrap_or(0));
            group.most.saturating_sub(taken)
        })
    }

    /// The agent with most room that accepts a lane. Room only shrinks in a round, so that one whose
    /// note is still right is the roomiest, and wrong notes are put right when they come to the top.
    fn roomiest(&mut self, lane: usize) -> Option<usize> {
        let takers = &mut self.queues[lane].takers;
        loop {
            let mut top = takers.peek_mut()?;
            let room = self.room[top.index.0];
            if room == top.room {
                return (room > 0).then_some(top.index.0);
            }
            top.room = room;
        }
    }

    fn serve(&mut self, next: Next, grants: &mut Vec<Grant>) {
        let lane = &self.lanes[next.lane];
        self.room[next.taker] -= 1;
        let project = &mut self.projects[next.project];
        project.running += 1;
        project.left = project.left.map(|left| left.saturating_sub(1));
        if let Some(group) = &lane.group {
            let key = (lane.project, group.name.as_str());
            *self.begun.entry(key).or_default() += 1;
        }
        let queue = &mut self.queues[next.lane];
        if let Some(place) = lane.waiting.get(queue.given) {
            queue.given += 1;
            grants.push(Grant {
                execution: place.execution,
                project: lane.project,
                agent: self.agents[next.taker],
            });
        }
    }
}

impl Queue {
    fn new(lane: &Lane, takers: &[Taker<'_>]) -> Self {
        let accepting: Vec<usize> = (0..takers.len())
            .filter(|taker| {
                let taker = &takers[*taker];
                lane.accepts(taker.labels, taker.projects)
            })
            .collect();
        let (avoided, others): (Vec<usize>, Vec<usize>) = accepting
            .into_iter()
            .partition(|taker| lane.avoid.contains(&takers[*taker].agent));
        let accepting = if others.is_empty() { avoided } else { others };
        let candidates = accepting.into_iter().map(|index| Candidate {
            room: takers[index].room,
            index: Reverse(index),
        });
        Self {
            takers: candidates.collect(),
            given: 0,
            done: false,
        }
    }
}

#[cfg(test)]
mod tests;
