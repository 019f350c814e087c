"""`make stack`: the services of docker-compose.yml as plain processes of this machine.

The compose file is the only description: which services, in which order, with which commands, settings, volumes and
health checks. `local` says what stands for an image, a path and a port here; what nothing stands for is left out aloud.
Needs the development tools, and is not in the wheel.
"""
