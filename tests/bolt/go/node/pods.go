package main

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// pod is what its records are made of.
type pod struct {
	dice                            *rand.Rand
	id, name, namespace, uid, netns string
	number, attempt                 int
	created                         time.Time
}

func hex(dice *rand.Rand, digits int) string {
	text := make([]byte, digits)
	for i := range text {
		text[i] = "0123456789abcdef"[dice.Intn(16)]
	}
	return string(text)
}

func uuid(dice *rand.Rand) string {
	return hex(dice, 8) + "-" + hex(dice, 4) + "-4" + hex(dice, 3) + "-a" + hex(dice, 3) + "-" + hex(dice, 12)
}

func makePod(dice *rand.Rand, number int) pod {
	p := pod{dice: dice, number: number}
	p.id, p.uid, p.netns = hex(dice, 64), uuid(dice), uuid(dice)
	p.name = fmt.Sprintf("app-%05d-%s", number, hex(dice, 5))
	p.namespace = []string{"default", "kube-system", "prod", "monitoring"}[number%4]
	if dice.Intn(10) == 0 {
		p.attempt = 1 + dice.Intn(3)
	}
	// A moment of its own, and the same one in each run.
	p.created = time.Unix(1790000000+int64(dice.Intn(800000)), int64(dice.Intn(1000000000))).UTC()
	return p
}

func (p pod) full() string {
	return fmt.Sprintf("%s_%s_%s_%d", p.name, p.namespace, p.uid, p.attempt)
}

func (p pod) write(all buckets) error {
	if err := p.writeSandbox(all); err != nil {
		return err
	}
	for i := 0; i < 2; i++ {
		if _, err := p.writeContainer(all, i); err != nil {
			return err
		}
	}
	return nil
}

// writer keeps the first error of many small steps.
type writer struct{ err error }

func (w *writer) bucket(within *bolt.Bucket, name string) *bolt.Bucket {
	if w.err != nil {
		return nil
	}
	var made *bolt.Bucket
	made, w.err = within.CreateBucketIfNotExists([]byte(name))
	return made
}

func (w *writer) put(within *bolt.Bucket, key string, value []byte) {
	if w.err == nil {
		w.err = within.Put([]byte(key), value)
	}
}

func (w *writer) times(within *bolt.Bucket, created time.Time) {
	for _, key := range []string{"createdat", "updatedat"} {
		value, err := created.MarshalBinary()
		if err != nil && w.err == nil {
			w.err = err
		}
		w.put(within, key, value)
		created = created.Add(312 * time.Millisecond)
	}
}

// anyOf is a protobuf Any.
func anyOf(url, value string) []byte {
	bytes := []byte{1<<3 | 2}
	bytes = append(binary.AppendUvarint(bytes, uint64(len(url))), url...)
	bytes = append(bytes, 2<<3|2)
	return append(binary.AppendUvarint(bytes, uint64(len(value))), value...)
}

// record is one of the bucket containers.
func (w *writer) record(all buckets, id string, created time.Time, spec, extension, url, meta string, labels ...string) {
	record := w.bucket(all.containers, id)
	w.times(record, created)
	w.put(record, "image", []byte("registry.k8s.io/pause:3.9"))
	w.put(record, "snapshotter", []byte("overlayfs"))
	w.put(record, "snapshotKey", []byte(id))
	w.put(record, "spec", anyOf("types.containerd.io/opencontainers/runtime-spec/1/Spec", spec))
	in := w.bucket(record, "labels")
	for i := 0; i+1 < len(labels); i += 2 {
		w.put(in, labels[i], []byte(labels[i+1]))
	}
	in = w.bucket(record, "runtime")
	w.put(in, "name", []byte("io.containerd.runc.v2"))
	w.put(in, "options", anyOf("containerd.runc.v1.Options", "/usr/bin/runc"))
	w.put(w.bucket(record, "extensions"), extension, anyOf(url, meta))
	in = w.bucket(all.snapshots, id)
	w.times(in, created)
	w.put(in, "name", []byte("k8s.io/42/"+id))
	w.put(in, "parent", []byte("sha256:e3e5579ddd43c08e4b5c74dc12941a4ef656fab070b1087a1fd5a8a836b71e7d"))
}

// spec is 1 to 2 KiB: that of a small container. Larger ones only make the file larger.
func (p pod) spec(id string) string {
	caps := `["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_NET_RAW","CAP_SETGID","CAP_SETUID"]`
	text := `{"ociVersion":"1.2.1","process":{"user":{"uid":0,"gid":0},"args":["/pause"],"cwd":"/","capabilities":{"bounding":` +
		caps + `,"effective":` + caps + `,"permitted":` + caps + `},"noNewPrivileges":true},"hostname":"` + p.name +
		`","linux":{"cgroupsPath":"/kubepods/burstable/pod` + p.uid + `/` + id + `"},"mounts":[`
	mount := `{"destination":"/etc/%d","type":"bind","source":"/var/lib/kubelet/pods/` + p.uid +
		`/volumes/%d","options":["rbind","rprivate","rw"]},`
	var mounts strings.Builder
	for size := 400 + p.dice.Intn(1000); mounts.Len() < size; {
		fmt.Fprintf(&mounts, mount, mounts.Len(), size)
	}
	return text + mounts.String() + `{}]}`
}

func (p pod) meta() string {
	attempt := ""
	if p.attempt > 0 {
		attempt = fmt.Sprintf(`,"attempt":%d`, p.attempt)
	}
	labels := fmt.Sprintf(`{"app":%[1]q,"io.kubernetes.pod.name":%[1]q,"io.kubernetes.pod.namespace":%[2]q,`+
		`"io.kubernetes.pod.uid":%[3]q,"pod-template-hash":"%[4]s"}`, p.name, p.namespace, p.uid, p.uid[:8])
	config := fmt.Sprintf(`{"metadata":{"name":%[1]q,"uid":%[2]q,"namespace":%[3]q%[4]s},"hostname":%[1]q,`+
		`"log_directory":"/var/log/pods/%[3]s_%[1]s_%[2]s","dns_config":{"servers":["10.152.183.10"],"searches":`+
		`["%[3]s.svc.cluster.local","svc.cluster.local","cluster.local"],"options":["ndots:5"]},"labels":%[5]s,`+
		`"annotations":{"kubernetes.io/config.seen":%[6]q,"kubernetes.io/config.source":"api"},`+
		`"linux":{"cgroup_parent":"/kubepods/burstable/pod%[2]s","security_context":{"namespace_options":{"pid":1}}}}`,
		p.name, p.uid, p.namespace, attempt, labels, p.created.Format(time.RFC3339Nano))
	ip := fmt.Sprintf("10.1.%d.%d", p.number/250%250, p.number%250+1)
	return fmt.Sprintf(`{"Version":"v1","Metadata":{"ID":%[1]q,"Name":%[2]q,"Config":%[3]s,`+
		`"NetNSPath":"/var/run/netns/cni-%[4]s","IP":%[5]q,"AdditionalIPs":null,"RuntimeHandler":"",`+
		`"CNIResult":{"Interfaces":{"eth0":{"IPConfigs":[{"IP":%[5]q,"Gateway":"169.254.1.1"}],`+
		`"Mac":"c6:df:31:28:cd:72","Sandbox":"/var/run/netns/cni-%[4]s","PciID":"","SocketPath":""}},"DNS":[{},{}],`+
		`"Routes":null},"ProcessLabel":""}}`, p.id, p.full(), config, p.netns, ip)
}

func (p pod) writeSandbox(all buckets) error {
	const url = "github.com/containerd/cri/pkg/store/sandbox/Metadata"
	var w writer
	meta := p.meta()
	w.record(all, p.id, p.created, p.spec(p.id), "io.cri-containerd.sandbox.metadata", url, meta,
		"io.cri-containerd.kind", "sandbox", "io.kubernetes.pod.name", p.name,
		"io.kubernetes.pod.namespace", p.namespace, "io.kubernetes.pod.uid", p.uid, "app", p.name)
	if all.sandboxes != nil {
		record := w.bucket(all.sandboxes, p.id)
		w.times(record, p.created)
		w.put(record, "sandboxer", []byte("podsandbox"))
		w.put(w.bucket(record, "runtime"), "name", []byte("io.containerd.runc.v2"))
		w.put(w.bucket(record, "extensions"), "metadata", anyOf(url, meta))
		w.put(w.bucket(record, "labels"), "name", []byte(p.full()))
	}
	return w.err
}

// writeContainer returns its id.
func (p pod) writeContainer(all buckets, number int) (string, error) {
	const url = "github.com/containerd/cri/pkg/store/container/Metadata"
	id, attempt := hex(p.dice, 64), p.dice.Intn(3)
	name := fmt.Sprintf("c%d", number)
	config := fmt.Sprintf(`{"metadata":{"name":%[1]q,"attempt":%[5]d},"image":{"image":"sha256:%[6]s"},"envs":[%[7]s],`+
		`"labels":{"io.kubernetes.container.name":%[1]q,"io.kubernetes.pod.name":%[2]q,`+
		`"io.kubernetes.pod.namespace":%[3]q,"io.kubernetes.pod.uid":%[4]q},`+
		`"annotations":{"io.kubernetes.container.restartCount":"%[5]d"},"log_path":"%[1]s/%[5]d.log"}`,
		name, p.name, p.namespace, p.uid, attempt, hex(p.dice, 64),
		strings.TrimSuffix(strings.Repeat(`{"key":"APP_SERVICE_HOST","value":"10.152.183.44"},`, 12), ","))
	// As Go leaves out what is empty.
	config = strings.Replace(config, `,"attempt":0`, "", 1)
	meta := fmt.Sprintf(`{"Version":"v1","Metadata":{"ID":%q,"Name":"%s_%s_%s_%s_%d","SandboxID":%q,"Config":%s,`+
		`"ImageRef":"sha256:%s","LogPath":"/var/log/pods/%s_%s_%s/%s/%d.log","StopSignal":"","ProcessLabel":""}}`,
		id, name, p.name, p.namespace, p.uid, attempt, p.id, config, hex(p.dice, 64),
		p.namespace, p.name, p.uid, name, attempt)
	var w writer
	w.record(all, id, p.created.Add(time.Duration(number+1)*time.Second), p.spec(id),
		"io.cri-containerd.container.metadata", url, meta,
		"io.cri-containerd.kind", "container", "io.kubernetes.container.name", name, "io.kubernetes.pod.name", p.name,
		"io.kubernetes.pod.namespace", p.namespace, "io.kubernetes.pod.uid", p.uid)
	return id, w.err
}
