//! How the daemons start, run and end as services.

use maglica_tests::{cloud::Cloud, node::Node};

#[test]
fn a_vm_is_started_stopped_and_switched_off_through_the_command() {
    let cloud = Cloud::builder().node(Node::new().off("vm0").running("vm1")).start();
    cloud.cli(&["vm", "start", "vm0"]).ok();
    assert_eq!(cloud.vm_state("vm0"), "running");
    cloud.cli(&["vm", "stop", "vm0"]).ok();
    assert_eq!(cloud.vm_state("vm0"), "off");
    cloud.cli(&["vm", "destroy", "vm1"]).ok();
    assert_eq!(cloud.vm_state("vm1"), "off");
}
