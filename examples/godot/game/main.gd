# Tries the class ChorusClient without a server: plays a made-up round, one poll a frame, and ends
# with exit code 0 when every event came and the model answers.
extends Node

const KINDS = ["connected", "disconnected", "invited", "refused", "trained", "uploaded",
		"contributed", "round_lost", "stopped", "equivocation"]
const STORY = ["connected", "invited", "trained", "uploaded", "contributed", "stopped"]
const OK_CODE = 0
const INVALID_ARGUMENT = 3
const FAILED_PRECONDITION = 9
const IN_COMBAT = 1
const FRAMES_MAX = 600

var client
var seen = []
var frames = 0
var ended = false


func _ready():
	client = load("res://chorus_client.gdns").new()
	if not expect(client != null and client.has_method("create"), "the library does not load"):
		return
	var key = PoolByteArray([1, 2])
	expect(client.create({"server": "echo.example:7447", "coordinator_key": key}) == INVALID_ARGUMENT
			and "32 bytes" in client.last_error(), "a key of two bytes was taken")
	expect(client.create({"echo": 1, "server": "echo.example:7447"}) == OK_CODE, "create")
	expect(client.start() == FAILED_PRECONDITION and "no examples" in client.last_error(),
			"a client without examples started")
	expect(client.add_examples(2, PoolRealArray([1, 2, 3, 5]), PoolIntArray([0, 1])) == OK_CODE,
			"add_examples")
	expect(client.start() == OK_CODE, "start")
	expect(client.set_signals(IN_COMBAT) == OK_CODE, "set_signals")
	expect(client.poll(100) == OK_CODE and client.next_event() == null, "events came in combat")
	expect(client.set_signals(0) == OK_CODE, "set_signals")


func _process(_delta):
	frames += 1
	if not expect(frames <= FRAMES_MAX, "the events did not come: %s" % [seen]):
		return
	if not expect(client.poll(2000) == OK_CODE, "poll"):
		return
	var event = client.next_event()
	while event != null:
		take(event)
		event = client.next_event()
	if seen.size() >= STORY.size():
		expect(seen == STORY, "other events came: %s" % [seen])
		client = null
		print("godot: ok")
		end(0)


func take(event):
	var kind = KINDS[event.kind]
	print("%s, round %d %s" % [kind, event.round, event.message])
	seen.append(kind)
	if kind == "connected":
		expect(event.message == "echo.example:7447", "the server's name is wrong")
	if kind == "contributed":
		expect(event.round == 1, "the round is wrong")
		expect(client.fetch_model() == OK_CODE, "fetch_model")
		var outputs = client.predict(PoolRealArray([0.5, -1]))
		expect(outputs is PoolRealArray and Array(outputs) == [0.5, -1.0], "predict: %s" % [outputs])
		expect(client.stop() == OK_CODE, "stop")


func expect(holds, what):
	if not holds:
		var why = "" if client == null or not client.has_method("last_error") else client.last_error()
		printerr("godot: FAILED: %s; %s" % [what, why])
		end(1)
	return holds


# The first to end decides; Godot goes on until the frame is over.
func end(code):
	if not ended:
		ended = true
		set_process(false)
		get_tree().quit(code)
