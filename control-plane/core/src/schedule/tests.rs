//! Fairness, order and limits of one round, by example and for any picture.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn project(number: u128) -> ProjectId {
    ProjectId::from(Uuid::from_u128(number))
}

fn agent(number: u128) -> AgentId {
    AgentId::from(Uuid::from_u128(number))
}

fn place(rank: i64, number: u128) -> Place {
    Place {
        rank,
        execution: ExecutionId::from(Uuid::from_u128(number)),
    }
}

fn lane(owner: u128, numbers: impl IntoIterator<Item = u128>) -> Lane {
    Lane {
        project: project(owner),
        target: Target::default(),
        avoid: Vec::new(),
        group: None,
        waiting: numbers.into_iter().map(|number| place(0, number)).collect(),
    }
}

fn share(owner: u128, weight: u32, running: u32) -> Share {
    Share {
        project: project(owner),
        weight,
        running,
        left: None,
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn zone(value: &str) -> Target {
    Target {
        matches: BTreeMap::from([("zone".to_owned(), vec![value.to_owned()])]),
        ..Target::default()
    }
}

fn taker(number: u128, labels: &BTreeMap<String, String>, room: u32) -> Taker<'_> {
    Taker {
        agent: agent(number),
        labels,
        projects: &[],
        room,
    }
}

fn numbers(grants: &[Grant]) -> Vec<u128> {
    let grants = grants.iter();
    grants
        .map(|grant| grant.execution.as_uuid().as_u128())
        .collect()
}

#[test]
fn the_first_of_a_small_project_goes_before_the_rest_of_a_large_one() {
    let none = labels(&[]);
    let takers = [taker(1, &none, 3)];
    let shares = [share(1, 1, 40), share(2, 1, 0)];
    let lanes = [lane(1, 1..1000), lane(2, [5000, 5001])];
    let grants = plan(&takers, &shares, &lanes, 100);
    assert_eq!(numbers(&grants), [5000, 5001, 1]);
}

#[test]
fn a_project_of_twice_the_weight_gets_twice_as_much() {
    let none = labels(&[]);
    let takers = [taker(1, &none, 90)];
    let shares = [share(1, 1, 0), share(2, 2, 0)];
    let lanes = [lane(1, 1..1000), lane(2, 2000..3000)];
    let grants = plan(&takers, &shares, &lanes, 90);
    let second = grants.iter().filter(|it| it.project == project(2)).count();
    assert_eq!(second, 60);
}

#[test]
fn priority_goes_first_then_age_over_all_lanes_of_a_project() {
    let (east, west) = (labels(&[("zone", "east")]), labels(&[("zone", "west")]));
    let takers = [taker(1, &east, 9), taker(2, &west, 9)];
    let mut first = lane(1, []);
    first.target = zone("east");
    first.waiting = vec![place(-5, 7), place(0, 1)];
    let mut second = lane(1, []);
    second.target = zone("west");
    second.waiting = vec![place(-1, 8), place(0, 2)];
    let grants = plan(&takers, &[share(1, 1, 0)], &[first, second], 9);
    assert_eq!(numbers(&grants), [7, 8, 1, 2]);
    assert_eq!(grants[0].agent, agent(1));
    assert_eq!(grants[1].agent, agent(2));
}

#[test]
fn what_no_agent_accepts_holds_nothing_up() {
    let east = labels(&[("zone", "east")]);
    let mut nowhere = lane(1, [1]);
    nowhere.target = zone("moon");
    let grants = plan(
        &[taker(1, &east, 9)],
        &[share(1, 1, 0)],
        &[nowhere, lane(1, [2])],
        9,
    );
    assert_eq!(numbers(&grants), [2]);
}

#[test]
fn agents_of_other_projects_and_full_ones_get_nothing() {
    let none = labels(&[]);
    let only = [project(2)];
    let mut foreign = taker(1, &none, 9);
    foreign.projects = &only;
    let grants = plan(
        &[foreign, taker(2, &none, 0)],
        &[share(1, 1, 0)],
        &[lane(1, [1])],
        9,
    );
    assert!(grants.is_empty());
}

#[test]
fn a_quota_ends_the_turn_of_its_project_alone() {
    let none = labels(&[]);
    let mut limited = share(1, 1, 0);
    limited.left = Some(1);
    let grants = plan(
        &[taker(1, &none, 9)],
        &[limited, share(2, 1, 100)],
        &[lane(1, 1..10), lane(2, [50, 51])],
        9,
    );
    assert_eq!(numbers(&grants), [1, 50, 51]);
}

#[test]
fn a_concurrency_group_lets_as_many_begin_as_it_has_places_over_all_its_lanes() {
    let none = labels(&[("zone", "east")]);
    let group = Group {
        name: "deploy".to_owned(),
        running: 1,
        most: 3,
    };
    let mut first = lane(1, [1, 3]);
    first.group = Some(group.clone());
    let mut second = lane(1, [2, 4]);
    second.group = Some(group);
    second.target = zone("east");
    let grants = plan(
        &[taker(1, &none, 9)],
        &[share(1, 1, 0)],
        &[first, second, lane(1, [9])],
        9,
    );
    assert_eq!(numbers(&grants), [1, 2, 9]);
}

#[test]
fn an_agent_where_it_could_not_begin_is_the_last_choice() {
    let none = labels(&[]);
    let mut burnt = lane(1, [1, 2]);
    burnt.avoid = vec![agent(1)];
    let takers = [taker(1, &none, 9), taker(2, &none, 1)];
    let grants = plan(&takers, &[share(1, 1, 0)], &[burnt.clone()], 9);
    assert_eq!(numbers(&grants), [1], "the other one is only full");
    let alone = plan(&takers[..1], &[share(1, 1, 0)], &[burnt], 9);
    assert_eq!(numbers(&alone), [1, 2], "better there than nowhere");
}

/// Owner, zone, places of its group, how many wait.
type AnyLane = (usize, Option<bool>, Option<(u32, u32)>, usize);

#[derive(Debug, Clone)]
struct Picture {
    rooms: Vec<(bool, u32)>,
    shares: Vec<(u32, u32, Option<u32>)>,
    lanes: Vec<AnyLane>,
}

fn any_picture() -> impl Strategy<Value = Picture> {
    let rooms = prop::collection::vec((any::<bool>(), 0..5_u32), 0..5);
    let shares = prop::collection::vec((1..4_u32, 0..9_u32, prop::option::of(0..4_u32)), 1..4);
    (rooms, shares).prop_flat_map(|(rooms, shares)| {
        let owner = 0..shares.len();
        let group = prop::option::of((0..3_u32, 1..4_u32));
        let lane = (owner, prop::option::of(any::<bool>()), group, 0..8_usize);
        (Just(rooms), Just(shares), prop::collection::vec(lane, 0..7)).prop_map(
            |(rooms, shares, lanes)| Picture {
                rooms,
                shares,
                lanes,
            },
        )
    })
}

proptest! {
    #[test]
    fn no_limit_is_exceeded_and_nothing_that_can_begin_is_left(picture in any_picture()) {
        let zones = [labels(&[("zone", "east")]), labels(&[("zone", "west")])];
        let takers: Vec<Taker<'_>> = picture.rooms.iter().enumerate().map(|(number, (east, room))| {
            taker(number as u128, &zones[usize::from(!east)], *room)
        }).collect();
        let shares: Vec<Share> = picture.shares.iter().enumerate().map(|(number, (weight, running, left))| Share {
            left: *left,
            ..share(number as u128, *weight, *running)
        }).collect();
        let lanes: Vec<Lane> = picture.lanes.iter().enumerate().map(|(number, (owner, east, group, count))| {
            let first = (number * 100) as u128;
            let mut lane = lane(*owner as u128, first..first + *count as u128);
            if let Some(east) = east {
                lane.target = zone(if *east { "east" } else { "west" });
            }
            lane.group = group.map(|(running, most)| Group { name: format!("g{number}"), running, most });
            lane
        }).collect();
        let grants = plan(&takers, &shares, &lanes, 1000);
        let mut seen = std::collections::HashSet::new();
        for grant in &grants {
            prop_assert!(seen.insert(grant.execution), "given once");
        }
        for taker in &takers {
            let got = grants.iter().filter(|grant| grant.agent == taker.agent).count();
            prop_assert!(got <= taker.room as usize);
        }
        let mut room: Vec<u32> = takers.iter().map(|taker| taker.room).collect();
        for grant in &grants {
            let lane = lanes.iter().find(|lane| lane.waiting.iter().any(|place| place.execution == grant.execution));
            let lane = lane.expect("of a lane");
            let accepting = (0..takers.len()).filter(|index| lane.target.accepts(takers[*index].labels));
            let roomiest = accepting.min_by_key(|index| Reverse(room[*index])).expect("somebody");
            prop_assert_eq!(grant.agent, takers[roomiest].agent, "the first of those with most room");
            room[roomiest] -= 1;
        }
        for share in &shares {
            let got = grants.iter().filter(|grant| grant.project == share.project).count();
            prop_assert!(share.left.is_none_or(|left| got <= left as usize));
        }
        for lane in &lanes {
            let of_lane: Vec<&Grant> = grants.iter().filter(|grant| lane.waiting.iter().any(|place| place.execution == grant.execution)).collect();
            if let Some(group) = &lane.group {
                prop_assert!(of_lane.len() <= group.most.saturating_sub(group.running) as usize);
            }
            for (grant, place) in of_lane.iter().zip(&lane.waiting) {
                prop_assert_eq!(grant.execution, place.execution, "in order");
            }
            // What is left has a reason.
            let full = takers.iter().filter(|taker| lane.target.accepts(taker.labels)).all(|taker| {
                grants.iter().filter(|grant| grant.agent == taker.agent).count() == taker.room as usize
            });
            let share = shares.iter().find(|share| share.project == lane.project);
            let spent = share.and_then(|share| share.left).is_some_and(|left| {
                grants.iter().filter(|grant| grant.project == lane.project).count() == left as usize
            });
            let crowded = lane.group.as_ref().is_some_and(|group| of_lane.len() >= group.most.saturating_sub(group.running) as usize);
            prop_assert!(of_lane.len() == lane.waiting.len() || full || spent || crowded);
        }
    }
}
