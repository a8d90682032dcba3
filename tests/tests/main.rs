//! The end-to-end tests: one program, so that its threads always have a next test to run. Most tests wait for a VM that
//! keeps one processor busy; programs that run one after the other would each end with a processor that is idle.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends with a panic")]

mod appliance;
mod appliance_faults;
mod at_once;
mod bad_recipe;
mod blocked;
mod blueprints;
mod boot_faults;
mod container_outputs;
mod containers;
mod disks;
mod documents;
mod guest_faults;
mod host_faults;
mod inspect;
mod installs;
mod killed;
mod layers;
mod network_faults;
mod portable;
mod recipes;
mod registry_faults;
mod sandbox;
mod schema;
mod setup;
mod sources;
mod stages;
mod terminal;
mod unfit;
mod verbs;
