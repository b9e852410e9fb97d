//! Mark and unmark: one new definition of the domain with other metadata. It can be done twice, and has no way back to go.

use maglica_proto::{
    fault::{Code, Fault},
    inventory::DiskDevice,
    job::{ImageOutcome, Outcome, Step, VmTask},
};
use tokio_util::sync::CancellationToken;

use crate::{
    hypervisor::{
        CALL_LIMIT,
        domain_xml::{self, DomainXmlError, Source},
    },
    task::{TaskContext, find, step::step},
};

/// Makes it an image, or none any more.
pub(super) async fn run(vm: &VmTask, image: bool, cx: &TaskContext) -> Result<Outcome, Fault> {
    let kind = if image { "image-mark" } else { "image-unmark" };
    let xml = step(cx, kind, Step::Check, async { Ok((check(vm, image, cx).await?, String::new())) }).await?;
    let outcome = |already| {
        Outcome::Image(if image { ImageOutcome::Marked { already } } else { ImageOutcome::Unmarked { already } })
    };
    let Some(xml) = xml else { return Ok(outcome(true)) };
    step(cx, kind, Step::Mark, async {
        let uuid = vm.uuid;
        cx.host
            .call(format!("defining {}", vm.name), CALL_LIMIT, move |hypervisor| {
                // Not one that was removed meanwhile.
                hypervisor.state(uuid)?;
                hypervisor.define(&xml).map(drop)
            })
            .await?;
        Ok((outcome(false), String::new()))
    })
    .await
}

/// Goes on. What was done before the crash is done, and a cancel that comes now is too late.
pub(super) async fn recover(vm: &VmTask, image: bool, cx: &TaskContext) -> Result<Outcome, Fault> {
    let done = matches!(check(vm, image, cx).await, Ok(None));
    let cancel = if done { CancellationToken::new() } else { cx.cancel.clone() };
    run(vm, image, &TaskContext { cancel, ..cx.clone() }).await
}

/// The description that it is to have; none if it is so already.
async fn check(vm: &VmTask, image: bool, cx: &TaskContext) -> Result<Option<String>, Fault> {
    let row = find(vm, cx).await?;
    let refuse = |why: &str| Err(Fault::new(Code::WrongState, format!("{} {why}", vm.name)).about(vm.name.as_str()));
    let uuid = vm.uuid;
    let xml = cx.host.look(format!("reading {}", vm.name), move |hypervisor| hypervisor.domain_xml(uuid)).await?;
    let broken = |error: DomainXmlError| Fault::from_error(Code::Hypervisor, &error).about(vm.name.as_str());
    let description = domain_xml::read(&xml).map_err(broken)?;
    if description.marked_image == image {
        return Ok(None);
    }
    if image {
        if row.state.is_active() {
            return refuse(&format!("is {}; only what is off can become an image", row.state.as_str()));
        }
        if row.autostart {
            return refuse("is started with its host; an image stays off, so switch its autostart off first");
        }
        let disk = |device| matches!(device, DiskDevice::Disk | DiskDevice::Lun);
        if !description.disks.iter().any(|found| disk(found.device) && found.source != Source::Empty) {
            return refuse("has no disk to clone");
        }
    }
    domain_xml::marked(&xml, image).map(Some).map_err(broken)
}
