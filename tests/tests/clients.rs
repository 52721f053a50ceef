//! The public clients, unchanged, and the wire vectors.
use observer_tests::{
    need_kernel,
    observer::{Observer, is},
};

#[test]
fn the_rust_client_is_attested() {
    need_kernel!();
    let observer = Observer::start(5000);
    let mut client = varta_client::Varta::connect(observer.socket()).expect("connects");
    let _ = client.beat(varta_client::Status::Ok, 7);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    assert_eq!(beat["pid"], std::process::id());
    assert_eq!(beat["sender"]["via"], "btf");
    assert!(observer.stop().status.success());
}
