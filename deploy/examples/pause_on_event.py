#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Follows a machine's events and pauses it when one fits; resumes it after a while.

    pause_on_event.py vm 'vm.dev.postport.post-code' 'd1'       a POST code
    pause_on_event.py vm 'vm.dev.machine.reset'                 the guest resets itself
    pause_on_event.py --resume-after 5 --times 3 vm 'vm.dev.'   each device event, three times

Usage: pause_on_event.py [--resume-after SECONDS] [--times N] MACHINE TOPIC-PREFIX [TEXT]
"""
import argparse
import sys
import time

from mobo_client import Bus, Error, env, event, machine


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--resume-after", type=float, default=1.0)
    p.add_argument("--times", type=int, default=1)
    p.add_argument("machine")
    p.add_argument("topic")
    p.add_argument("text", nargs="?", default="")
    a = p.parse_args()

    bus = Bus(a.machine, env.OPERATOR, "pause-on-event")
    print(f"following {a.topic}* of {a.machine}", flush=True)
    done = 0
    for topic, hdr, body in bus.events("vm."):
        if isinstance(body, event.StateChanged):
            state = body.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number[body.state].name
            print(f"{hdr.ts_ns / 1e9:10.6f} s  state {state} {body.reason}", flush=True)
        if not topic.startswith(a.topic) or a.text not in getattr(body, "text", ""):
            continue
        print(f"{hdr.ts_ns / 1e9:10.6f} s  {topic} {getattr(body, 'text', '')}", flush=True)
        bus.call(machine.Pause())
        status = bus.call(machine.GetStatus())
        print(f"paused at {status.vtime_ns / 1e9:.6f} s", flush=True)
        time.sleep(a.resume_after)
        again = bus.call(machine.GetStatus())
        print(f"resumed at {again.vtime_ns / 1e9:.6f} s", flush=True)
        bus.call(machine.Resume())
        done += 1
        if done == a.times:
            return


if __name__ == "__main__":
    try:
        main()
    except Error as e:
        sys.exit(f"pause_on_event: {e}")
    except KeyboardInterrupt:
        pass
