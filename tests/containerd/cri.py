"""Asks a containerd as a kubelet does; SOCKET, IMAGE and LOGS are in the environment.

One JSON object a line is one call, and its answer is one line. The messages are written and read by hand, with the field
numbers of the CRI's api.proto: nothing needs to be generated.
"""
import json, os, sys
import grpc

socket, image, logs = (os.environ[name] for name in ("SOCKET", "IMAGE", "LOGS"))


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytearray([number]))


def message(*fields):
    """Of (number, value): a number, a text, or another message. Zero is not written, as in proto3."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value) if value else b""
        else:
            value = value if isinstance(value, bytes) else value.encode()
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def fields(data):
    """The values of a message by their number."""
    found, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        value = number()
        if tag & 7 == 2:
            value, at = data[at:at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(of, number):
    return of.get(number, [b""])[0].decode()


def labels(number, of):
    return [(number, message((1, key), (2, value))) for key, value in of.items()]


def namespaces(pod):
    """The network is the pod's (0) or the node's (2); each container has processes of its own (1)."""
    return message((1, 2 if pod["host_network"] else 0), (2, 1))


def pod_config(pod):
    names = {"io.kubernetes.pod." + key: pod[key] for key in ("name", "namespace", "uid")}
    return message(
        (1, message((1, pod["name"]), (2, pod["uid"]), (3, pod["namespace"]), (4, pod["attempt"]))),
        (2, "" if pod["host_network"] else pod["name"]),
        (3, logs),
        *labels(6, names),
        (8, message((1, pod["cgroup"]), (2, message((1, namespaces(pod)))))),
    )


def container_config(ask):
    names = {"io.kubernetes.container.name": "main", "io.kubernetes.pod.uid": ask["pod"]["uid"]}
    # As a kubelet counts on: the name of the last one is still taken.
    name = message((1, "main"), (2, ask["pod"]["attempt"]))
    linux = message((2, message((3, namespaces(ask["pod"])))))
    return message((1, name), (2, message((1, image))), *labels(9, names), (11, ask["sandbox"] + ".log"), (15, linux))


def call(ask):
    def unary(method, request=b""):
        # A channel each: the daemon comes and goes.
        with grpc.insecure_channel("unix://" + socket) as channel:
            return fields(channel.unary_unary("/runtime.v1.RuntimeService/" + method)(request, timeout=ask["seconds"]))

    what = ask["do"]
    if what == "version":
        return text(unary("Version"), 3)
    if what == "run_pod":
        return text(unary("RunPodSandbox", message((1, pod_config(ask["pod"])))), 1)
    if what == "stop_pod":
        unary("StopPodSandbox", message((1, ask["sandbox"])))
    elif what == "remove_pod":
        unary("RemovePodSandbox", message((1, ask["sandbox"])))
    elif what == "run_container":
        config, pod = container_config(ask), pod_config(ask["pod"])
        container = text(unary("CreateContainer", message((1, ask["sandbox"]), (2, config), (3, pod))), 1)
        unary("StartContainer", message((1, container)))
        return container
    elif what == "pods":
        pods = [fields(pod) for pod in unary("ListPodSandbox").get(1, [])]
        return [{"id": text(pod, 1), "ready": 3 not in pod, "created": pod[4][0]} for pod in pods]
    else:
        raise ValueError(what)
    return None


for line in sys.stdin:
    try:
        answer = {"Ok": call(json.loads(line))}
    except grpc.RpcError as error:
        answer = {"Err": f"{error.code().name}: {error.details()}"}
    print(json.dumps(answer), flush=True)
