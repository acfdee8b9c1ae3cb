"""What runs on the cluster: the Ray Serve application and everything that it loads.

The files here build, deploy and serve the application. The rooms below hold its parts. Imports
point one way: app -> api -> request -> core, and app -> stages -> engines -> core.
"""
