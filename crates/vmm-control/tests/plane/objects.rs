//! Objects: types of an author's own, use, failure, and what the built-in types do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vmm_control::objects::Creation;
use vmm_control::objects::builtin::{IoThreadObject, MemoryBackendMemfd, MemoryBackendRam};
use vmm_control::{
    CommandError, CommandResult, Context, ControlPlane, LocalSession, Object, ObjectType, QapiType, RunState,
};

use crate::support::{Toy, ask, built, plain};

/// What a dial is set to.
#[derive(Deserialize, Serialize, QapiType)]
struct DialProperties {
    /// Where it stands.
    level: i64,
    /// What is written on it.
    label: Option<String>,
    /// Whether it fails when it is switched on.
    broken: Option<bool>,
}

/// How many dials there are, and whether they can be taken away.
#[derive(Clone, Default)]
struct Shop {
    alive: Arc<AtomicUsize>,
    locked: Arc<AtomicBool>,
}

struct Dial {
    level: AtomicI64,
    label: Option<String>,
    broken: bool,
    shop: Shop,
}

impl Drop for Dial {
    fn drop(&mut self) {
        self.shop.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Object for Dial {
    type Properties = DialProperties;

    const SETTABLE: &'static [&'static str] = &["level"];

    fn properties(&self) -> DialProperties {
        let level = self.level.load(Ordering::Relaxed);
        DialProperties { level, label: self.label.clone(), broken: Some(self.broken) }
    }

    fn set(&self, _: &'static str, new: DialProperties) -> CommandResult<()> {
        if new.level > 11 {
            return Err(CommandError::generic("it goes to eleven"));
        }
        self.level.store(new.level, Ordering::Relaxed);
        Ok(())
    }

    async fn complete(&self, creation: &Creation) -> CommandResult<()> {
        assert_eq!(creation.path, format!("/objects/{}", creation.id));
        if self.broken { Err(CommandError::generic("it does not switch on")) } else { Ok(()) }
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        if self.shop.locked.load(Ordering::Relaxed) {
            return Err(CommandError::generic("the shop is locked"));
        }
        Ok(())
    }
}

fn dial(shop: &Shop) -> ObjectType {
    let shop = shop.clone();
    ObjectType::new("x-dial", move |_: &Creation, properties: DialProperties| {
        shop.alive.fetch_add(1, Ordering::Relaxed);
        Ok(Dial {
            level: AtomicI64::new(properties.level),
            label: properties.label,
            broken: properties.broken.unwrap_or(false),
            shop: shop.clone(),
        })
    })
}

fn with_dials() -> (ControlPlane, LocalSession, Shop) {
    let shop = Shop::default();
    let plane = built(ControlPlane::builder(Toy::new(RunState::Running)).object_type(dial(&shop)));
    let session = plane.connect();
    (plane, session, shop)
}

async fn get(session: &LocalSession, path: &str, property: &str) -> Value {
    ask(session, "qom-get", json!({"path": path, "property": property})).await
}

async fn set(session: &LocalSession, path: &str, property: &str, value: Value) -> Value {
    ask(session, "qom-set", json!({"path": path, "property": property, "value": value})).await
}

#[tokio::test]
async fn an_authors_type_is_an_equal_of_the_built_in_ones() {
    let (_plane, session, _shop) = with_dials();
    let add = |arguments| ask(&session, "object-add", arguments);
    let level = json!({"qom-type": "x-dial", "id": "d", "level": "1"});
    assert_eq!(add(level).await, "GenericError: Invalid parameter type for 'level', expected: integer");
    let lacking = json!({"qom-type": "x-dial", "id": "d"});
    assert_eq!(add(lacking).await, "GenericError: Parameter 'level' is missing");
    assert_eq!(add(json!({"qom-type": "x-dial", "id": "d", "level": 3, "label": "gain"})).await, json!({}));

    assert_eq!(get(&session, "/objects/d", "level").await, 3);
    assert_eq!(get(&session, "d", "label").await, "gain");
    assert_eq!(set(&session, "d", "level", json!(5)).await, json!({}));
    assert_eq!(get(&session, "d", "level").await, 5);
    assert_eq!(set(&session, "d", "level", json!(12)).await, "GenericError: it goes to eleven");
    let wrong = "GenericError: Invalid parameter type for 'level', expected: integer";
    assert_eq!(set(&session, "d", "level", json!("5")).await, wrong);
    let fixed = "GenericError: Property 'x-dial.label' is not writable";
    assert_eq!(set(&session, "d", "label", json!("x")).await, fixed);
    assert_eq!(set(&session, "d", "nope", json!(1)).await, "GenericError: Property 'x-dial.nope' not found");

    let types = ask(&session, "qom-list-types", json!({"implements": "user-creatable"})).await;
    assert!(types.as_array().unwrap().contains(&json!({"name": "x-dial", "parent": "object"})), "{types}");
    let listed = ask(&session, "qom-list", json!({"path": "/objects/d"})).await;
    assert!(listed.as_array().unwrap().contains(&json!({"name": "level", "type": "int"})), "{listed}");
    let described = ask(&session, "qom-list-properties", json!({"typename": "x-dial"})).await;
    assert!(described.to_string().contains("Where it stands."), "{described}");
    let schema = ask(&session, "query-qmp-schema", ()).await.to_string();
    assert!(schema.contains("x-dial"));
}

#[tokio::test]
async fn a_failed_object_leaves_nothing_behind() {
    let (plane, session, shop) = with_dials();
    let broken = json!({"qom-type": "x-dial", "id": "d", "level": 1, "broken": true});
    for _ in 0..3 {
        assert_eq!(ask(&session, "object-add", &broken).await, "GenericError: it does not switch on");
        assert!(!plane.objects().contains("/objects/d"));
    }
    let twice = json!({"qom-type": "x-dial", "id": "e", "level": 1});
    assert_eq!(ask(&session, "object-add", &twice).await, json!({}));
    let duplicate = "GenericError: attempt to add duplicate property 'e' to object (type 'container')";
    assert_eq!(ask(&session, "object-add", &twice).await, duplicate);
    assert_eq!(shop.alive.load(Ordering::Relaxed), 1, "what was refused is gone");
}

#[tokio::test]
async fn what_is_used_stays() {
    let (plane, session, shop) = with_dials();
    let delete = || ask(&session, "object-del", json!({"id": "d"}));
    ask(&session, "object-add", json!({"qom-type": "x-dial", "id": "d", "level": 1})).await;
    assert!(plane.objects().acquire::<IoThreadObject>("/objects/d").is_none(), "it is another type");
    let used = plane.objects().acquire::<Dial>("/objects/d").unwrap();
    assert_eq!((used.path(), used.level.load(Ordering::Relaxed)), ("/objects/d", 1));
    assert_eq!(delete().await, "GenericError: object 'd' is in use, can not be deleted");
    drop(used);

    shop.locked.store(true, Ordering::Relaxed);
    assert_eq!(delete().await, "GenericError: the shop is locked");
    assert!(plane.objects().acquire::<Dial>("/objects/d").is_some(), "a refused removal is over");
    shop.locked.store(false, Ordering::Relaxed);
    assert_eq!(delete().await, json!({}));
    assert_eq!(delete().await, "GenericError: object 'd' not found");
    assert_eq!(shop.alive.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn objects_go_with_their_plane() {
    let (plane, session, shop) = with_dials();
    ask(&session, "object-add", json!({"qom-type": "x-dial", "id": "d", "level": 1})).await;
    drop(session);
    drop(plane);
    // On a thread of their own, as whoever drops a plane must not wait for them.
    let gone = async {
        while shop.alive.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn an_iothread_is_a_thread() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    let add = json!({"qom-type": "iothread", "id": "io", "poll-max-ns": 7});
    assert_eq!(ask(&session, "object-add", add).await, json!({}));
    let list = ask(&session, "query-iothreads", ()).await;
    let tid = list[0]["thread-id"].as_i64().unwrap();
    let comm = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap();
    assert_eq!((comm.trim(), &list[0]["poll-max-ns"]), ("IO io", &json!(7)));

    let (sender, receiver) = std::sync::mpsc::channel();
    let user = plane.iothreads().get("io").unwrap();
    user.handle()
        .run(move |_| sender.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap())
        .unwrap();
    assert_eq!(i64::from(receiver.recv().unwrap()), tid);
    let busy = "GenericError: object 'io' is in use, can not be deleted";
    assert_eq!(ask(&session, "object-del", json!({"id": "io"})).await, busy);
    drop(user);
    assert_eq!(ask(&session, "object-del", json!({"id": "io"})).await, json!({}));
    assert!(!std::path::Path::new(&format!("/proc/self/task/{tid}")).exists(), "it was joined");
    assert_eq!(ask(&session, "query-iothreads", ()).await, json!([]));
}

#[tokio::test]
async fn an_iothread_is_kept_to_cpus() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    let get = json!({"path": "io", "property": "cpu-affinity"});
    let set = |cpus: Value| json!({"path": "io", "property": "cpu-affinity", "value": cpus});
    let allowed = |thread: i64| {
        let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
    };
    let anywhere = allowed(rustix::thread::gettid().as_raw_nonzero().get().into());
    // The first that this process may use.
    let cpu: u16 = anywhere.split([',', '-']).next().unwrap().parse().unwrap();

    let add = json!({"qom-type": "iothread", "id": "io", "cpu-affinity": [cpu, 1023]});
    let refused = "GenericError: Setting CPU affinity failed: not possible on CPU 1023";
    assert_eq!(ask(&session, "object-add", add).await, refused);
    assert_eq!(ask(&session, "qom-list", json!({"path": "/objects"})).await.as_array().unwrap().len(), 1);
    assert_eq!(
        ask(&session, "object-add", json!({"qom-type": "iothread", "id": "io", "cpu-affinity": [-1]})).await,
        "GenericError: Parameter 'null' expects uint16_t"
    );

    let add = json!({"qom-type": "iothread", "id": "io", "cpu-affinity": [cpu]});
    assert_eq!(ask(&session, "object-add", add).await, json!({}));
    // QEMU's properties in QEMU's order, and this one last.
    let listed = ask(&session, "qom-list", json!({"path": "/objects/io"})).await;
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|p| [&p["name"], &p["type"]]).collect();
    assert_eq!(
        json!(listed),
        json!([
            ["type", "string"],
            ["thread-pool-min", "int"],
            ["aio-max-batch", "int"],
            ["thread-pool-max", "int"],
            ["poll-max-ns", "int"],
            ["poll-grow", "int"],
            ["poll-shrink", "int"],
            ["cpu-affinity", "int"],
        ])
    );
    let thread = ask(&session, "query-iothreads", ()).await[0]["thread-id"].as_i64().unwrap();
    assert_eq!(
        (ask(&session, "qom-get", get.clone()).await, allowed(thread)),
        (json!([cpu]), cpu.to_string())
    );
    assert_eq!(ask(&session, "qom-set", set(json!([1023]))).await, refused);
    assert_eq!(
        (ask(&session, "qom-get", get.clone()).await, allowed(thread)),
        (json!([cpu]), cpu.to_string())
    );
    assert_eq!(ask(&session, "qom-set", set(json!([]))).await, json!({}));
    assert_eq!((ask(&session, "qom-get", get).await, allowed(thread)), (json!([]), anywhere));
}

#[tokio::test]
async fn iothreads_say_what_they_have_been_doing() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    for id in ["b", "a"] {
        ask(&session, "object-add", json!({"qom-type": "iothread", "id": id})).await;
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let user = plane.iothreads().get("a").unwrap();
    let nothing = |_: iothread::Events, _: &mut iothread::Scope<'_>| {};
    user.handle().add_handler(theirs, iothread::Interest::READ, nothing).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    user.handle().run(move |_| sender.send(()).unwrap()).unwrap();
    receiver.recv().unwrap();
    let stats = ask(&session, "x-query-iothread-stats", ()).await;
    let ids = ask(&session, "query-iothreads", ()).await;
    let thread =
        |id: &str| ids.as_array().unwrap().iter().find(|info| info["id"] == id).unwrap()["thread-id"].clone();
    for (index, id) in ["a", "b"].into_iter().enumerate() {
        assert_eq!((&stats[index]["id"], &stats[index]["thread-id"]), (&json!(id), &thread(id)));
    }
    let a = &stats[0];
    assert_eq!((&a["handlers"], &a["polled-handlers"], &a["closures"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!((&a["poll-hits"], &a["poll-misses"], &a["poll-ns"]), (&json!(0), &json!(0), &json!(0)));
    assert!(a["wakeups"].is_u64(), "{a}");
    assert_eq!(stats[1]["closures"], 0);
    drop(ours);
}

#[tokio::test]
async fn memory_that_cannot_be_had_is_an_error() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    for (kind, size, error) in [
        ("ram", json!(-1), "cannot set up guest memory 'm': Cannot allocate memory"),
        ("ram", json!(1_u64 << 62), "cannot set up guest memory 'm': Cannot allocate memory"),
        ("memfd", json!(1_u64 << 50), "unable to map backing store for guest RAM: Cannot allocate memory"),
    ] {
        let add = json!({"qom-type": format!("memory-backend-{kind}"), "id": "m", "size": size});
        assert_eq!(ask(&session, "object-add", add).await, format!("GenericError: {error}"), "{kind} {size}");
        assert!(!plane.objects().contains("/objects/m"));
    }
    // Reserved it can be; made it would cost somebody's life.
    let total = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = total
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    let all = json!({"qom-type": "memory-backend-ram", "id": "m", "size": total * 1024, "reserve": false, "prealloc": true});
    assert_eq!(
        ask(&session, "object-add", all).await,
        "GenericError: cannot preallocate memory: Cannot allocate memory"
    );
    assert!(!plane.objects().contains("/objects/m"));
    let huge = json!({"qom-type": "memory-backend-memfd", "id": "m", "size": -1});
    let reply = ask(&session, "object-add", huge).await;
    assert!(reply.as_str().unwrap().starts_with("GenericError: failed to resize memfd to"), "{reply}");
}

#[tokio::test]
async fn a_memory_backend_is_memory() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    let add = json!({"qom-type": "memory-backend-memfd", "id": "m", "size": 8192, "prealloc": true,
                     "prealloc-threads": 4});
    assert_eq!(ask(&session, "object-add", add).await, json!({}));
    let memory = plane.objects().peek::<MemoryBackendMemfd>("/objects/m").unwrap().memory().unwrap();
    assert_eq!(memory.len(), 8192);
    let stat = rustix::fs::fstat(memory.fd().unwrap()).unwrap();
    assert_eq!((stat.st_size, stat.st_blocks), (8192, 16), "all pages are there");
    assert!(rustix::fs::ftruncate(memory.fd().unwrap(), 0).is_err(), "it is sealed");
    let private = json!({"qom-type": "memory-backend-memfd", "id": "p", "size": 4096, "share": false});
    let refused = "GenericError: A memfd is always shared here; leave out 'share' or turn it on";
    assert_eq!(ask(&session, "object-add", private).await, refused);
}

#[tokio::test]
async fn shared_memory_is_shared() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    for (id, share) in [("m", true), ("n", false)] {
        let add = json!({"qom-type": "memory-backend-ram", "id": id, "size": 4096, "share": share});
        assert_eq!(ask(&session, "object-add", add).await, json!({}));
        let backend = plane.objects().peek::<MemoryBackendRam>(&format!("/objects/{id}")).unwrap();
        let address = backend.memory().unwrap().as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.starts_with(&format!("{address:x}-")));
        // A private anonymous mapping may have been joined to its neighbour.
        assert!(!share || line.unwrap().contains("rw-s"), "{line:?}");
        assert!(share || !line.is_some_and(|line| line.contains("rw-s")), "{line:?}");
    }
}

/// An object that keeps the plane, which keeps the tree it stands in.
struct Keeper {
    plane: vmm_control::PlaneHandle,
    _alive: Arc<()>,
}

impl Object for Keeper {
    type Properties = ();

    fn properties(&self) {}

    async fn complete(&self, _: &Creation) -> CommandResult<()> {
        Ok(self.plane.events().emit_plain("X_KEPT")?)
    }
}

#[tokio::test]
async fn an_object_may_keep_its_plane_and_goes_with_it() {
    let alive = Arc::new(());
    let kept = alive.clone();
    let keeper = ObjectType::new("x-keeper", move |creation: &Creation, ()| {
        Ok(Keeper { plane: creation.plane.clone(), _alive: kept.clone() })
    });
    let device = ObjectType::new("x-keeping-device", {
        let kept = alive.clone();
        move |creation: &Creation, ()| Ok(Keeper { plane: creation.plane.clone(), _alive: kept.clone() })
    });
    let builder = ControlPlane::builder(Toy::new(RunState::Running))
        .event(vmm_control::EventSpec::standard::<()>("X_KEPT"))
        .object_type(keeper)
        .device_type(device);
    let plane = built(builder);
    let mut session = plane.connect();
    session.watch();
    let objects = plane.objects().clone();
    session.call("object-add", &json!({"qom-type": "x-keeper", "id": "a"})).await.unwrap();
    session.call("device_add", &json!({"driver": "x-keeping-device"})).await.unwrap();
    assert_eq!(Arc::strong_count(&alive), 5, "two of the types', two of the objects'");
    drop(plane);
    assert!(!objects.contains("/objects/a") && !objects.contains("/machine"));
    // They end on a thread that may wait for them.
    let start = std::time::Instant::now();
    while Arc::strong_count(&alive) > 3 {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "they are not dropped");
        tokio::task::yield_now().await;
    }
    // Who still has a session can ask, and leaves nothing behind.
    let added = session.call("object-add", &json!({"qom-type": "x-keeper", "id": "b"})).await;
    assert!(added.is_err() || !objects.contains("/objects/b"));
    assert_eq!(Arc::strong_count(&alive), 3);
    drop((session, objects));
    assert_eq!(Arc::strong_count(&alive), 1, "the types went too");
}

#[tokio::test]
async fn what_would_have_no_effect_on_memory_is_refused() {
    let plane = plain(&Toy::new(RunState::Running));
    let session = plane.connect();
    let ram = |more: Value| {
        let mut all = json!({"qom-type": "memory-backend-ram", "id": "m", "size": 4096});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for (more, text) in [
        (json!({"policy": "bind"}), "host-nodes must be set for policy bind"),
        (
            json!({"policy": "bind", "host-nodes": [0]}),
            "Memory cannot be bound to NUMA nodes here; leave out 'policy' and 'host-nodes'",
        ),
        (json!({"size": 0}), "property 'size' of memory-backend-ram doesn't take value '0'"),
        (
            json!({"prealloc-threads": 0}),
            "property 'prealloc-threads' of memory-backend-ram doesn't take value '0'",
        ),
    ] {
        assert_eq!(ask(&session, "object-add", ram(more)).await, format!("GenericError: {text}"));
    }
    assert_eq!(ask(&session, "object-add", ram(json!({}))).await, json!({}));
    for (property, value) in [("policy", json!("bind")), ("host-nodes", json!([0])), ("share", json!(true))] {
        assert_eq!(set(&session, "m", property, value).await, "GenericError: cannot change property value");
    }
    for on in [true, false] {
        assert_eq!(set(&session, "m", "prealloc", json!(on)).await, json!({}));
        assert_eq!(get(&session, "m", "prealloc").await, on);
    }
    assert_eq!(set(&session, "m", "merge", json!(false)).await, json!({}));
    assert_eq!(get(&session, "m", "merge").await, false);
    let size = "GenericError: cannot change property size of memory-backend-ram ";
    assert_eq!(set(&session, "m", "size", json!(8192)).await, size);
}

/// QEMU has no such bounds.
#[tokio::test]
async fn there_are_bounds_for_clients() {
    let (plane, session, shop) = with_dials();
    let add = |id: String| ask(&session, "object-add", json!({"qom-type": "x-dial", "id": id, "level": 1}));
    assert_eq!(add("d".repeat(1025)).await, "GenericError: Parameter 'id' expects at most 1024 bytes");
    assert_eq!(add("d".repeat(1024)).await, json!({}));
    for number in 1..4096 {
        assert_eq!(add(format!("d{number}")).await, json!({}));
    }
    assert_eq!(add("more".to_owned()).await, "GenericError: There are 4096 objects already: remove some");
    assert_eq!(shop.alive.load(Ordering::Relaxed), 4096);
    assert_eq!(ask(&session, "object-del", json!({"id": "d1"})).await, json!({}));
    assert_eq!(add("more".to_owned()).await, json!({}));
    let monitor =
        json!({"qom-type": "monitor-qmp", "id": "m", "chardev": "c", "allowed-uids": vec![0; 1025]});
    ask(&session, "object-del", json!({"id": "more"})).await;
    let long = "GenericError: Parameter 'allowed-uids' expects at most 1024 ids";
    assert_eq!(ask(&session, "object-add", monitor).await, long);
    drop(plane);
}
