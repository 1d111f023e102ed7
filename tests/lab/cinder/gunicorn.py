# What serves Keystone. A file, since Keystone reads the arguments of whatever program it is loaded into.
wsgi_app = "keystone.wsgi.api:application"
bind = "127.0.0.1:5000"
threads = 8
control_socket_disable = True
