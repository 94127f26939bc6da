package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serverVariable has the settings of the server that this process is to be.
const serverVariable = "TRAININGSCHOOL_SERVER"

// natsServer is a server of NATS in a separate process.
type natsServer struct {
	Name        string
	Folder      string
	Port        int
	ClusterPort int
	MonitorPort int
	Routes      []string

	process *exec.Cmd
	stdin   io.Closer
}

// serve is the process of a server. It ends with its standard input.
func serve(settings string) error {
	var n natsServer
	if err := json.Unmarshal([]byte(settings), &n); err != nil {
		return err
	}
	options := &server.Options{
		ServerName: n.Name, Host: "127.0.0.1", Port: n.Port, HTTPHost: "127.0.0.1", HTTPPort: n.MonitorPort,
		JetStream: true, StoreDir: n.Folder, SyncAlways: true, MaxPayload: 32 << 20, NoLog: true, NoSigs: true,
		Cluster: server.ClusterOpts{Name: "trainingschool", Host: "127.0.0.1", Port: n.ClusterPort},
	}
	for _, route := range n.Routes {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: route})
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return fmt.Errorf("server %s does not start", n.Name)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
	return err
}

// startServers starts three servers that know each other.
func startServers(folder string) (servers []*natsServer, err error) {
	for i := range 3 {
		name := fmt.Sprintf("nats-%d", i+1)
		servers = append(servers, &natsServer{Name: name, Folder: filepath.Join(folder, name)})
	}
	for _, n := range servers {
		for _, port := range []*int{&n.Port, &n.ClusterPort, &n.MonitorPort} {
			if *port, err = freePort(); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range servers {
		for _, other := range servers {
			if other != n {
				n.Routes = append(n.Routes, fmt.Sprintf("127.0.0.1:%d", other.ClusterPort))
			}
		}
		if err := n.start(); err != nil {
			stopServers(servers)
			return nil, err
		}
	}
	return servers, nil
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func (n *natsServer) start() error {
	settings, err := json.Marshal(n)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	n.process = exec.Command(program)
	n.process.Env = append(os.Environ(), serverVariable+"="+string(settings))
	n.process.Stderr = os.Stderr
	if n.stdin, err = n.process.StdinPipe(); err != nil {
		return err
	}
	return n.process.Start()
}

// kill ends the process of a server as kill -9 does.
func (n *natsServer) kill() error {
	if err := n.process.Process.Kill(); err != nil {
		return err
	}
	n.process.Wait() // its error is that it was killed
	return nil
}

func stopServers(servers []*natsServer) {
	for _, n := range servers {
		if n.process != nil && n.process.ProcessState == nil {
			n.stdin.Close()
			n.process.Wait()
		}
	}
}

func urls(servers []*natsServer) string {
	all := make([]string, len(servers))
	for i, n := range servers {
		all[i] = fmt.Sprintf("nats://127.0.0.1:%d", n.Port)
	}
	return strings.Join(all, ",")
}

func monitoring(servers []*natsServer) []string {
	all := make([]string, len(servers))
	for i, n := range servers {
		all[i] = fmt.Sprintf("http://127.0.0.1:%d", n.MonitorPort)
	}
	return all
}
