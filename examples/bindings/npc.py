"""NPCs that learn from players, in one file: npc.py LIBCHORUS_COORDINATOR LIBCHORUS_CLIENT KEYS

The game server is this process; its coordinator answers within the server's tick. Each player's
game is a process of its own that trains on the player's own action log, 1 ms a frame. Nobody sees
a log but its player; the server learns sums. KEYS is a folder of `chorus keys init` with clients.
"""

import multiprocessing
import random
import sys
import time

import chorus

PLAYERS = 5
ACTIONS = ["flee", "fight", "trade"]
TASK = """
name: "npc" rounds: 4 protocol: PROTOCOL_SECAGG
model { inputs: 3 layers { units: 12 activation: ACTIVATION_TANH } layers { units: 3 }
        loss: LOSS_CROSS_ENTROPY }
training { epochs: 5 batch_size: 16 learning_rate: 0.3 held_back_percent: 10 }
clip { update_l2_norm_max: 8 } encoding { bound: 1048576 examples_max: 1024 }
secagg { gamma_ppm: 50000 delta_ppm: 100000 honest_min: 2 }
cohort { minimum: 5 target: 5 maximum: 5 }
deadlines { check_in_ms: 120000 train_ms: 120000 choose_ms: 120000 share_ms: 120000
            upload_ms: 120000 consistency_ms: 120000 unmask_ms: 120000 hedge_ms: 0 }
"""


def what_a_player_does(health, distance, armed):
    if health < 0.3:
        return 0
    return 1 if armed and distance < 0.6 else 2


def action_log(seed, length=300):
    chance = random.Random(seed)
    situations = [[chance.random(), chance.random(), chance.randint(0, 1)] for _ in range(length)]
    return situations, [what_a_player_does(*situation) for situation in situations]


def play(library, keys, number, port, state):
    client = chorus.Client.from_keys(chorus.Library(library), f"{keys}/clients/client-{number:03}",
                                     server=f"127.0.0.1:{port}", state_dir=f"{state}/{number}")
    client.add_examples(*action_log(number))
    client.start()
    contributed = 0
    while True:
        for event in client.poll(1000):  # the rest of the frame is the game's
            contributed += event.kind == chorus.CONTRIBUTED
            if event.kind == chorus.STOPPED:
                client.close()
                sys.exit(0 if contributed == 4 and event.status == chorus.OK else 1)
        time.sleep(0.001)


def how_npcs_act(model):
    situations, actions = action_log(seed=99)
    right = 0
    for situation, action in zip(situations, actions):
        outputs = model.predict(situation)
        right += outputs.index(max(outputs)) == action
    first = model.predict([0.1, 0.5, 1])
    return right / len(actions), ACTIONS[first.index(max(first))]


def main(coordinator_library, client_library, keys, state):
    # Before the coordinator's library brings threads: a fork would leave them behind.
    context = multiprocessing.get_context("spawn")
    coordinator = chorus.Coordinator.from_keys(chorus.Library(coordinator_library), keys,
                                               task=TASK, listen="127.0.0.1:0",
                                               web_listen="127.0.0.1:0", experiment_seed=7)
    players = [context.Process(target=play, args=(client_library, keys, number,
                                                  coordinator.port(), state))
               for number in range(PLAYERS)]
    for player in players:
        player.start()
    # Where the server's engineer looks.
    print(f"page and metrics: http://127.0.0.1:{coordinator.web_port()}/")
    before = how_npcs_act(coordinator.fetch_model())
    print(f"before: NPCs act like players in {before[0]:.0%} of situations; badly hurt: {before[1]}")
    done, end = False, time.monotonic() + 240
    while not done and time.monotonic() < end:
        for event in coordinator.poll(2000):
            if event.kind == chorus.ROUND_ENDED:
                share, act = how_npcs_act(coordinator.fetch_model())
                print(f"round {event.round}: {share:.0%}; badly hurt: {act}")
            done |= event.kind == chorus.TASK_COMPLETE
        time.sleep(0.001)
    after = how_npcs_act(coordinator.fetch_model())
    # The players' games hear that the task is complete, and end.
    while any(player.is_alive() for player in players) and time.monotonic() < end:
        coordinator.poll(2000)
        time.sleep(0.001)
    coordinator.close()
    for player in players:
        if player.is_alive():
            player.terminate()
        player.join()
    ok = done and all(player.exitcode == 0 for player in players)
    sys.exit(0 if ok and after[0] > 0.8 and after[0] > before[0] and after[1] == "flee" else 1)


if __name__ == "__main__":
    main(*sys.argv[1:5])
