# The config must have bridge = "auto", in [defaults] or in the services; without it, the container needs --network host.
localport start
localport env --format docker >localport.env
docker run --env-file localport.env IMAGE
