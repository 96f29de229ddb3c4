"""ROS without ROS: messages, frames and recordings as plain Python over the `rosbags` package."""
